"""The sidecar's configuration file (TOML); every mistake names its key."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class ConfigError(Exception):
    """The configuration file breaks a rule; the message names the key."""


@dataclass(frozen=True, slots=True)
class FraudConfig:
    grpc_address: str
    metrics_address: str
    ca: Path
    cert: Path
    key: Path
    model_dir: Path


def load_config(path: Path) -> FraudConfig:
    """Raises ConfigError; relative paths are taken from the file's folder."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    base = path.parent
    return FraudConfig(
        grpc_address=_address(table, "listen.grpc"),
        metrics_address=_address(table, "listen.metrics"),
        ca=base / _text(table, "tls.ca"),
        cert=base / _text(table, "tls.cert"),
        key=base / _text(table, "tls.key"),
        model_dir=base / _text(table, "model_dir"),
    )


def _text(table: dict[str, Any], path: str) -> str:
    value: Any = table
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{path}: must be a text, is {value!r}")
    return value


def _address(table: dict[str, Any], path: str) -> str:
    value = _text(table, path)
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"{path}: must be host:port, is {value!r}")
    return value
