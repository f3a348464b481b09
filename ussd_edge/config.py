"""The edge's configuration file (TOML); every mistake names its key."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kibubu_client import TlsFiles


class ConfigError(Exception):
    """The configuration file breaks a rule; the message names the key."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    http_address: tuple[str, int]
    metrics_address: tuple[str, int]
    tls: TlsFiles
    nodes: tuple[str, ...]
    currency: str
    service_code: str
    gateway_secret: str  # "" = none is asked for


def load_config(path: Path) -> EdgeConfig:
    """Raises ConfigError; relative paths are taken from the file's folder."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    base = path.parent
    nodes = table.get("nodes")
    if not isinstance(nodes, list) or not nodes or not all(isinstance(node, str) for node in nodes):
        raise ConfigError(f"nodes: must be a list of host:port, is {nodes!r}")
    return EdgeConfig(
        http_address=_address(table, "listen.http"),
        metrics_address=_address(table, "listen.metrics"),
        tls=TlsFiles(*(base / _text(table, f"tls.{key}") for key in ("ca", "cert", "key"))),
        nodes=tuple(nodes),
        currency=_text(table, "currency"),
        service_code=_text(table, "service_code"),
        gateway_secret=str(table.get("gateway_secret", "")),
    )


def _text(table: dict[str, Any], path: str) -> str:
    value: Any = table
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{path}: must be a text, is {value!r}")
    return value


def _address(table: dict[str, Any], path: str) -> tuple[str, int]:
    value = _text(table, path)
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"{path}: must be host:port, is {value!r}")
    return host, int(port)
