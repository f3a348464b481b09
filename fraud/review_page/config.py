"""The review page's configuration file (TOML); every mistake names its key."""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kibubu_client import TlsFiles


class ConfigError(Exception):
    """The configuration file breaks a rule; the message names the key."""


@dataclass(frozen=True, slots=True)
class PageConfig:
    http_address: tuple[str, int]
    metrics_address: tuple[str, int]
    tls: TlsFiles
    nodes: tuple[str, ...]
    analysts_file: Path
    host_names: tuple[str, ...]  # as browsers call this server: its address, and what a proxy before it is called
    behind_tls: bool  # cookies are then sent over TLS alone


def load_config(path: Path) -> PageConfig:
    """Raises ConfigError; relative paths are taken from the file's folder."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    nodes, names = table.get("nodes"), table.get("host_names", [])
    for key, value, empty_ok in (("nodes", nodes, False), ("host_names", names, True)):
        if not isinstance(value, list) or not (value or empty_ok) or not all(isinstance(one, str) for one in value):
            raise ConfigError(f"{key}: must be a list of texts, is {value!r}")
    behind_tls = table.get("behind_tls", False)
    if not isinstance(behind_tls, bool):
        raise ConfigError(f"behind_tls: must be true or false, is {behind_tls!r}")
    http = _address(table, "listen.http")
    if not behind_tls and not _is_loopback(http[0]):
        raise ConfigError(
            "listen.http: must be a loopback address, or behind_tls = true with a TLS proxy before it: tokens and "
            "cookies must not cross a network in the clear"
        )
    assert isinstance(nodes, list)
    return PageConfig(
        http_address=http,
        metrics_address=_address(table, "listen.metrics"),
        tls=TlsFiles(*(path.parent / _text(table, f"tls.{key}") for key in ("ca", "cert", "key"))),
        nodes=tuple(nodes),
        analysts_file=path.parent / _text(table, "analysts_file"),
        host_names=(f"{http[0]}:{http[1]}", *names),
        behind_tls=behind_tls,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(table: dict[str, Any], key: str) -> str:
    value: Any = table
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key}: must be a text, is {value!r}")
    return value


def _address(table: dict[str, Any], key: str) -> tuple[str, int]:
    text = _text(table, key)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal() and int(port) <= 65_535):
        raise ConfigError(f"{key}: must be host:port, is {text!r}")
    return host, int(port)
