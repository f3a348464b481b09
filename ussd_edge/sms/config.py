"""The outbox's configuration file (TOML); every mistake names its key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from kibubu_client import TlsFiles
from ussd_edge.config import ConfigError, address_at, secret_at, text_at
from ussd_edge.menu.texts import LANGUAGES
from ussd_edge.sms.gateways.africastalking import AfricasTalkingSms
from ussd_edge.sms.gateways.file_sink import FileSink
from ussd_edge.sms.gateways.smpp import SmppSettings, SmppSms
from ussd_edge.sms.limits import AGE_S_DEFAULT
from ussd_edge.sms.outbox import OutboxSettings
from ussd_edge.sms.seam import SmsGateway
from ussd_edge.sms.texts import Style

_GATEWAYS = ("file", "africastalking", "smpp")
_AFRICASTALKING_URL = "https://api.africastalking.com/version1/messaging"


@dataclass(frozen=True, slots=True)
class SmsConfig:
    metrics_address: tuple[str, int]
    tls: TlsFiles
    nodes: tuple[str, ...]
    book_file: Path
    settings: OutboxSettings
    make_gateway: Callable[[], SmsGateway]


def load_config(path: Path) -> SmsConfig:
    """Raises ConfigError; relative paths are taken from the file's folder."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    base, nodes = path.parent, table.get("nodes")
    if not isinstance(nodes, list) or not nodes or not all(isinstance(node, str) for node in nodes):
        raise ConfigError(f"nodes: must be a list of host:port, is {nodes!r}")
    return SmsConfig(
        metrics_address=address_at(table, "listen.metrics"),
        tls=TlsFiles(*(base / text_at(table, f"tls.{key}") for key in ("ca", "cert", "key"))),
        nodes=tuple(nodes),
        book_file=base / text_at(table, "book_file"),
        settings=_settings(table),
        make_gateway=_gateway(table, base),
    )


def _settings(table: dict[str, Any]) -> OutboxSettings:
    language = table.get("default_language", "en")
    if language not in LANGUAGES:
        raise ConfigError(f"default_language: must be one of {', '.join(LANGUAGES)}, is {language!r}")
    start = table.get("start", "now")
    if start not in ("now", "beginning"):
        raise ConfigError(f"start: must be now or beginning, is {start!r}")
    style = Style(
        brand=text_at(table, "brand") if "brand" in table else "Kibubu",
        default_language=language,
        utc_offset=timedelta(minutes=_whole(table, "utc_offset_minutes", 180, -720, 840)),
    )
    return OutboxSettings(style, start == "beginning", _whole(table, "age_s_max", AGE_S_DEFAULT, 60, 30 * 86_400))


def _gateway(table: dict[str, Any], base: Path) -> Callable[[], SmsGateway]:
    gateway = table.get("gateway")
    kind = gateway.get("kind") if isinstance(gateway, dict) else None
    if kind not in _GATEWAYS:
        raise ConfigError(f"gateway.kind: must be one of {', '.join(_GATEWAYS)}, is {kind!r}")
    if kind == "file":
        file = base / text_at(table, "gateway.file")
        return lambda: FileSink(file)
    if kind == "africastalking":
        username = text_at(table, "gateway.username")
        url = text_at(table, "gateway.url") if "url" in table["gateway"] else _AFRICASTALKING_URL
        key = _secret(table, "api_key_file", base)
        sender = text_at(table, "gateway.sender") if "sender" in table["gateway"] else ""
        return lambda: AfricasTalkingSms(url, username, key, sender)
    host, port = address_at(table, "gateway.address")
    password = _secret(table, "password_file", base)
    settings = SmppSettings(
        host, port, text_at(table, "gateway.system_id"), password, text_at(table, "gateway.sender"),
        text_at(table, "gateway.system_type") if "system_type" in table["gateway"] else "",
    )  # fmt: skip
    return lambda: SmppSms(settings)


def _secret(table: dict[str, Any], key: str, base: Path) -> str:
    text_at(table, f"gateway.{key}")  # it must be there
    return secret_at(table["gateway"], "gateway", key, base).decode("ascii", "replace")


def _whole(table: dict[str, Any], key: str, default: int, low: int, high: int) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{key}: must be {low} to {high}, is {value!r}")
    return value
