"""The edge's configuration: every mistake names its key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ussd_edge.config import ConfigError, load_config

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
"""


def test_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(GOOD, encoding="utf-8")
    config = load_config(path)
    assert (config.http_address, config.metrics_address) == (("127.0.0.1", 3), ("127.0.0.1", 4))
    assert (config.tls.ca, config.tls.cert) == (tmp_path / "ca", Path("/etc/cert"))
    assert (config.nodes, config.gateway_secret) == (("127.0.0.1:1", "127.0.0.1:2"), "")


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
]


@pytest.mark.parametrize(("old", "new", "complaint"), MISTAKES)
def test_a_mistake_names_its_key(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    path = tmp_path / "edge.toml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
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
