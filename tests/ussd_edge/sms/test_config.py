"""The outbox's configuration: each mistake names its key, each gateway can be chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ussd_edge.config import ConfigError
from ussd_edge.sms.config import load_config
from ussd_edge.sms.gateways.africastalking import AfricasTalkingSms
from ussd_edge.sms.gateways.file_sink import FileSink
from ussd_edge.sms.gateways.smpp import SmppSms

GOOD = """nodes = ["127.0.0.1:1"]
book_file = "outbox.sqlite"
brand = "PESA"
default_language = "sw"
utc_offset_minutes = 60
[listen]
metrics = "127.0.0.1:2"
[tls]
ca = "ca"
cert = "cert"
key = "key"
[gateway]
"""
FILE = 'kind = "file"\nfile = "texts.jsonl"\n'
HTTP = 'kind = "africastalking"\nusername = "kibubu"\napi_key_file = "secret"\nsender = "KIBUBU"\n'
SMPP = 'kind = "smpp"\naddress = "10.0.0.1:2775"\nsystem_id = "k"\npassword_file = "secret"\nsender = "KIBUBU"\n'


def written(folder: Path, text: str) -> Path:
    secret = folder / "secret"
    if not secret.exists():
        secret.write_text("s3cret\n", encoding="utf-8")
        secret.chmod(0o600)
    path = folder / "sms.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("gateway", "kind"), [(FILE, FileSink), (HTTP, AfricasTalkingSms), (SMPP, SmppSms)])
async def test_each_gateway(tmp_path: Path, gateway: str, kind: type) -> None:
    config = load_config(written(tmp_path, GOOD + gateway))
    assert config.settings.style.brand == "PESA"
    assert config.settings.style.utc_offset == timedelta(hours=1)
    assert not config.settings.from_beginning
    assert config.book_file == tmp_path / "outbox.sqlite"
    made = config.make_gateway()
    assert isinstance(made, kind)
    await made.close()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("x", "sms.toml"),
        (GOOD.replace('nodes = ["127.0.0.1:1"]', "nodes = []") + FILE, "nodes"),
        (GOOD.replace('"sw"', '"xx"') + FILE, "default_language"),
        (GOOD.replace("= 60", "= 9000") + FILE, "utc_offset_minutes"),
        (GOOD.replace("= 60", "= true") + FILE, "utc_offset_minutes"),
        ('start = "soon"\n' + GOOD + FILE, "start"),
        ("age_s_max = 1\n" + GOOD + FILE, "age_s_max"),
        (GOOD.replace('"127.0.0.1:2"', '"here"') + FILE, "listen.metrics"),
        (GOOD + 'kind = "pigeon"\n', "gateway.kind"),
        (GOOD, "gateway.kind"),
        (GOOD + 'kind = "file"\n', "gateway.file"),
        (GOOD + HTTP.replace("username", "user"), "gateway.username"),
        (GOOD + HTTP.replace("api_key_file", "key_file"), "gateway.api_key_file"),
        (GOOD + HTTP.replace('"secret"', '"nowhere"'), "gateway.api_key_file"),
        (GOOD + SMPP.replace(":2775", ""), "gateway.address"),
        (GOOD + SMPP.replace("system_id", "id"), "gateway.system_id"),
        (GOOD + SMPP.replace("password_file", "password"), "gateway.password_file"),
    ],
)
def test_a_mistake_names_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load_config(written(tmp_path, text))


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + HTTP)
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(ConfigError, match="closed to other users"):
        load_config(path)


def test_the_process_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + 'kind = "pigeon"\n')
    done = subprocess.run(
        [sys.executable, "-m", "ussd_edge.sms", "--config", str(path)], capture_output=True, text=True, check=False,
        timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join([".", "proto/gen"])},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "kibubu sms: gateway.kind: must be one of file, africastalking, smpp, is 'pigeon'\n"
