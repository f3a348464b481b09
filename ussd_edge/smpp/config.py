"""The bridge's configuration file (TOML); every mistake names its key."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ussd_edge.config import ConfigError, address_at, secret_at, text_at
from ussd_edge.smpp.link import PSSR_RESPONSE, LinkSettings

SESSION_FIELDS = ("user_message_reference", "its_session_info", "none")


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    metrics_address: tuple[str, int]
    edge_url: str
    secret: str  # the edge's [gateways.smpp] secret_file, "" = none
    link: LinkSettings


def load_config(path: Path) -> BridgeConfig:
    """Raises ConfigError; relative paths are taken from the file's folder."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    edge = table.get("edge", {})
    secret = secret_at(edge, "edge", "secret_file", path.parent) if isinstance(edge, dict) else b""
    return BridgeConfig(
        metrics_address=address_at(table, "listen.metrics"),
        edge_url=_url(text_at(table, "edge.url")),
        secret=secret.decode(),
        link=_link(table, path.parent),
    )


def _link(table: dict[str, Any], base: Path) -> LinkSettings:
    centre = table.get("centre")
    if not isinstance(centre, dict):
        raise ConfigError("centre: must be a table: address, system_id, password_file")
    host, port = address_at(table, "centre.address")
    field = centre.get("session_field", SESSION_FIELDS[0])
    if field not in SESSION_FIELDS:
        raise ConfigError(f"centre.session_field: must be one of {', '.join(SESSION_FIELDS)}, is {field!r}")
    end_op = centre.get("end_op", PSSR_RESPONSE)
    if not isinstance(end_op, int) or isinstance(end_op, bool) or not 0 < end_op < 256:
        raise ConfigError(f"centre.end_op: must be 1 to 255, is {end_op!r}")
    return LinkSettings(
        host=host,
        port=port,
        system_id=text_at(table, "centre.system_id"),
        password=secret_at(centre, "centre", "password_file", base).decode(),
        system_type=text_at(table, "centre.system_type") if "system_type" in centre else "",
        session_field="" if field == "none" else field,
        end_op=end_op,
    )


def _url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"edge.url: must begin with http:// or https://, is {url!r}")
    return url
