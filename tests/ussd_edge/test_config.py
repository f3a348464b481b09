"""The edge's configuration: every mistake names its key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ussd_edge.config import ConfigError, load_config
from ussd_edge.guard import Access

GOOD = """
nodes = ["127.0.0.1:1", "127.0.0.1:2"]
currency = "KES"
service_code = "*384*100#"
[listen]
http = "127.0.0.1:3"
metrics = "127.0.0.1:4"
[tls]
ca = "ca"
cert = "/etc/cert"
key = "key"
[sessions]
key_file = "session.key"
[gateways.africastalking]
secret_file = "secret"
[gateways.hubtel]
hmac_key_file = "secret"
allow = ["203.0.113.0/24", "2001:db8::1"]
steps_per_second_max = 7
[gateways.airtel]
open = true
"""


def write(folder: Path, text: str = GOOD) -> Path:
    for name, content, mode in (
        ("session.key", b"k" * 32, 0o400), ("secret", b"s3cret\n", 0o600), ("empty", b"", 0o600), ("bare", b"s", 0o644),
        ("short.key", b"k" * 31, 0o400), ("loose.key", b"k" * 32, 0o600),
    ):  # fmt: skip
        file = folder / name
        file.write_bytes(content)
        file.chmod(mode)
    path = folder / "edge.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_one(tmp_path: Path) -> None:
    config = load_config(write(tmp_path))
    assert (config.http_address, config.metrics_address) == (("127.0.0.1", 3), ("127.0.0.1", 4))
    assert (config.tls.ca, config.tls.cert) == (tmp_path / "ca", Path("/etc/cert"))
    assert (config.nodes, config.redis_url) == (("127.0.0.1:1", "127.0.0.1:2"), "")
    gateways = config.settings.gateways
    assert list(gateways) == ["africastalking", "hubtel", "airtel"]
    assert gateways["africastalking"].access == Access(secret=b"s3cret")
    assert gateways["hubtel"].access.hmac_key == b"s3cret"
    assert [str(network) for network in gateways["hubtel"].access.networks or ()] == [
        "203.0.113.0/24",
        "2001:db8::1/128",
    ]
    assert gateways["hubtel"].steps_per_second_max == 7
    assert gateways["airtel"].access == Access()


def test_with_redis(tmp_path: Path) -> None:
    text = GOOD.replace("[sessions]", '[sessions]\nredis_url = "redis://127.0.0.1:6379/0"')
    assert load_config(write(tmp_path, text)).redis_url == "redis://127.0.0.1:6379/0"


MISTAKES = [
    ('nodes = ["127.0.0.1:1", "127.0.0.1:2"]', "", "nodes: must be a list"),
    ('nodes = ["127.0.0.1:1", "127.0.0.1:2"]', "nodes = []", "nodes: must be a list"),
    ('nodes = ["127.0.0.1:1", "127.0.0.1:2"]', "nodes = [1]", "nodes: must be a list"),
    ('currency = "KES"', "currency = 404", "currency: must be a text"),
    ('service_code = "*384*100#"', 'service_code = ""', "service_code: must be a text"),
    ('http = "127.0.0.1:3"', 'http = "127.0.0.1"', "listen.http: must be host:port"),
    ('http = "127.0.0.1:3"', 'http = "127.0.0.1:65536"', "listen.http: must be host:port"),
    ('metrics = "127.0.0.1:4"', "", "listen.metrics: must be a text"),
    ('key = "key"', "", "tls.key: must be a text"),
    ("[tls]", "[tls", "edge.toml"),
    ('currency = "KES"', 'currency = "KES"\ndevelopment = 5', "development.browser_phone: must be true or false"),
    ("[tls]", "[development]\nbrowser_phone = 1\n[tls]", "development.browser_phone: must be true or false, is 1"),
    ('currency = "KES"', 'currency = "KES"\ndefault_language = "la"', "default_language: must be one of en, sw, fr,"),
    ('key_file = "session.key"', "", "sessions.key_file: must be a text"),
    ('key_file = "session.key"', 'key_file = "none.key"', "sessions.key_file: "),
    ('key_file = "session.key"', 'key_file = "short.key"', "must hold 32 bytes, holds 31"),
    ('key_file = "session.key"', 'key_file = "loose.key"', "must have mode 0400, has 0600"),
    ('key_file = "session.key"', 'key_file = "session.key"\nredis_url = 5', "sessions.redis_url: must be a text"),
    ('secret_file = "secret"', "", "gateways.africastalking: needs secret_file"),
    ('secret_file = "secret"', 'secret_file = "none"', "gateways.africastalking.secret_file: "),
    ('secret_file = "secret"', 'secret_file = "empty"', "must hold a secret and be closed"),
    ('secret_file = "secret"', 'secret_file = "bare"', "must hold a secret and be closed"),
    ('secret_file = "secret"', 'secret = "s3cret"', "gateways.africastalking: must be a table of"),
    ('secret_file = "secret"', 'secret_file = "secret"\nopen = true', "gateways.africastalking: needs secret_file"),
    ("[gateways.airtel]", "[gateways.telegraph]", "gateways.telegraph: is none of africastalking, "),
    ('"203.0.113.0/24"', '"203.0.113.1/24"', "gateways.hubtel.allow: must be a list of networks"),
    ("steps_per_second_max = 7", "steps_per_second_max = 0", "gateways.hubtel.steps_per_second_max: must be 1 to"),
    (
        'currency = "KES"',
        'currency = "KES"\nhandset_steps_per_minute_max = true',
        "handset_steps_per_minute_max: must be",
    ),
]


@pytest.mark.parametrize(("old", "new", "complaint"), MISTAKES)
def test_a_mistake_names_its_key(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert complaint in str(caught.value)


def test_the_process_says_it_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ussd_edge", "--config", str(tmp_path / "none.toml")],
        capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == 2
    assert "none.toml" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
