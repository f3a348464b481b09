"""The edge's configuration file (TOML); every mistake names its key."""

from __future__ import annotations

import ipaddress
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kibubu_client import TlsFiles
from ussd_edge.app import EdgeSettings, GatewaySettings
from ussd_edge.gateways import GATEWAYS
from ussd_edge.guard import Access, Network
from ussd_edge.limits import GATEWAY_STEPS_PER_SECOND_MAX, HANDSET_STEPS_PER_MINUTE_MAX
from ussd_edge.menu.texts import LANGUAGES
from ussd_edge.sessions import SessionKeyError, load_key

_GATEWAY_KEYS = frozenset({"open", "secret_file", "hmac_key_file", "allow", "steps_per_second_max"})
_RATE_MAX = 1_000_000


class ConfigError(Exception):
    """The configuration file breaks a rule; the message names the key."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    http_address: tuple[str, int]
    metrics_address: tuple[str, int]
    tls: TlsFiles
    nodes: tuple[str, ...]
    redis_url: str  # "" = the store embedded in the process
    settings: EdgeSettings


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
        http_address=address_at(table, "listen.http"),
        metrics_address=address_at(table, "listen.metrics"),
        tls=TlsFiles(*(base / text_at(table, f"tls.{key}") for key in ("ca", "cert", "key"))),
        nodes=tuple(nodes),
        settings=_settings(table, base),  # before the next: it knows that [sessions] is a table
        redis_url=text_at(table, "sessions.redis_url") if "redis_url" in table["sessions"] else "",
    )


def _settings(table: dict[str, Any], base: Path) -> EdgeSettings:
    try:
        session_key = load_key(base / text_at(table, "sessions.key_file"))
    except SessionKeyError as error:
        raise ConfigError(f"sessions.key_file: {error}") from error
    language = table.get("default_language", "en")
    if language not in LANGUAGES:
        raise ConfigError(f"default_language: must be one of {', '.join(LANGUAGES)}, is {language!r}")
    development = table.get("development", {})
    phone = development.get("browser_phone", False) if isinstance(development, dict) else None
    if not isinstance(phone, bool):
        raise ConfigError(f"development.browser_phone: must be true or false, is {phone!r}")
    return EdgeSettings(
        currency=text_at(table, "currency"),
        service_code=text_at(table, "service_code"),
        gateways=_gateways(table, base),
        session_key=session_key,
        default_language=language,
        browser_phone=phone,
        sms_file=base / text_at(table, "development.sms_file") if "sms_file" in development else None,
        handset_steps_per_minute_max=_count(
            table, "", "handset_steps_per_minute_max", HANDSET_STEPS_PER_MINUTE_MAX
        ),
    )  # fmt: skip


def _gateways(table: dict[str, Any], base: Path) -> dict[str, GatewaySettings]:
    gateways = table.get("gateways")
    if not isinstance(gateways, dict) or not gateways:
        raise ConfigError("gateways: must name at least one, as [gateways.africastalking]")
    found = {}
    for name, one in gateways.items():
        if name not in GATEWAYS:
            raise ConfigError(f"gateways.{name}: is none of {', '.join(GATEWAYS)}")
        if not isinstance(one, dict) or not one.keys() <= _GATEWAY_KEYS:
            raise ConfigError(f"gateways.{name}: must be a table of {', '.join(sorted(_GATEWAY_KEYS))}")
        rate = _count(one, f"gateways.{name}.", "steps_per_second_max", GATEWAY_STEPS_PER_SECOND_MAX)
        found[name] = GatewaySettings(_access(one, f"gateways.{name}", base), rate)
    return found


def _access(one: dict[str, Any], where: str, base: Path) -> Access:
    """A gateway that anybody may call must be said to be open."""
    access = Access(
        secret=secret_at(one, where, "secret_file", base),
        hmac_key=secret_at(one, where, "hmac_key_file", base),
        networks=_networks(one["allow"], f"{where}.allow") if "allow" in one else None,
    )
    if (one.get("open") is True) == (access != Access()):
        raise ConfigError(f"{where}: needs secret_file, hmac_key_file or allow, or open = true and none of them")
    return access


def secret_at(one: dict[str, Any], where: str, key: str, base: Path) -> bytes:
    if key not in one:
        return b""
    file = base / text_at(one, key, where)
    try:
        secret, mode = file.read_bytes().strip(), file.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{where}.{key}: {file}: {error.strerror}") from error
    if not secret or stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{where}.{key}: {file}: must hold a secret and be closed to other users")
    return secret


def _networks(allow: Any, where: str) -> tuple[Network, ...]:
    try:
        networks = tuple(ipaddress.ip_network(one) for one in allow)
    except (TypeError, ValueError):
        networks = ()
    if not networks or not isinstance(allow, list):
        raise ConfigError(f"{where}: must be a list of networks like 203.0.113.0/24, is {allow!r}")
    return networks


def _count(table: dict[str, Any], where: str, key: str, default: int) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _RATE_MAX:
        raise ConfigError(f"{where}{key}: must be 1 to {_RATE_MAX}, is {value!r}")
    return value


def text_at(table: dict[str, Any], path: str, where: str = "") -> str:
    value: Any = table
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}{'.' if where else ''}{path}: must be a text, is {value!r}")
    return value


def address_at(table: dict[str, Any], path: str) -> tuple[str, int]:
    value = text_at(table, path)
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"{path}: must be host:port, is {value!r}")
    return host, int(port)
