"""The node's configuration file (TOML), read once at start; every mistake names its key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.ledger.scoring import SCORED_CODES_MAX
from node.ledger.statuses import TransferCode
from node.service.airtime import PROVIDERS
from node.service.fraud_rules import NO_LISTS, FraudRules, RulesError, rules_from


class ConfigError(Exception):
    """The configuration file breaks a rule; the message names the key."""


@dataclass(frozen=True, slots=True)
class Peer:
    node_id: str
    peer_address: str
    api_address: str


@dataclass(frozen=True, slots=True)
class TlsPaths:
    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class NodeConfig:
    node_id: str
    cluster_id: str
    data_dir: Path
    api_address: str
    peer_address: str
    metrics_address: str
    peers: tuple[Peer, ...]  # the others, without this node
    tls: TlsPaths
    pin_key_file: Path
    tariff_path: Path | None
    airtime_provider: str = "instant"
    fraud_address: str = ""
    fraud_deadline_ms: int = 50
    unscored_allow_max_minor: int = 100_000
    fraud_rules: FraudRules = NO_LISTS
    scored_codes: tuple[int, ...] = ()  # of raw transfers that customers send; none = no raw transfer is scored
    map_gib: int = 64
    checkpoint_interval_s: float = 5.0
    reserve_mib: int = 512  # of the disk: with less free, no new work
    scrub_mib_per_s: float = 8.0  # 0 = never
    raft: dict[str, Any] = field(default_factory=dict)

    def api_address_of(self, node_id: str) -> str:
        if node_id == self.node_id:
            return self.api_address
        return next((peer.api_address for peer in self.peers if peer.node_id == node_id), "")


def _get(table: dict[str, Any], path: str, kind: type, default: Any = None) -> Any:
    value: Any = table
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            if default is not None:
                return default
            raise ConfigError(f"{path}: missing")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{path}: must be {kind.__name__}, is {value!r}")
    return value


def _one_of(table: dict[str, Any], path: str, known: Iterable[str], default: str) -> str:
    value = str(_get(table, path, str, default))
    if value not in known:
        raise ConfigError(f"{path}: must be one of {', '.join(known)}, is {value!r}")
    return value


def _address(table: dict[str, Any], path: str, default: str | None = None) -> str:
    value = str(_get(table, path, str, default))
    host, _, port = value.rpartition(":")
    if value and (not host or not port.isdecimal() or not 0 <= int(port) <= 65_535):
        raise ConfigError(f"{path}: must be host:port, is {value!r}")
    return value


def _rules(table: dict[str, Any]) -> FraudRules:
    try:
        return rules_from(_get(table, "fraud.rules", dict, {}))
    except RulesError as error:
        raise ConfigError(str(error)) from error


def _scored_codes(table: dict[str, Any]) -> tuple[int, ...]:
    """Those of fraud.scored_codes, where fraud.score_transfers is on."""
    codes = _get(table, "fraud.scored_codes", list, [int(TransferCode.PRINCIPAL), int(TransferCode.AIRTIME)])
    if not codes or len(codes) > SCORED_CODES_MAX:
        raise ConfigError(f"fraud.scored_codes: must be 1 to {SCORED_CODES_MAX} transfer codes, are {len(codes)}")
    for number, code in enumerate(codes):
        if isinstance(code, bool) or not isinstance(code, int) or not 0 < code <= 0xFFFF:
            raise ConfigError(f"fraud.scored_codes[{number}]: must be 1 to 65535, is {code!r}")
    return tuple(codes) if _get(table, "fraud.score_transfers", bool, False) else ()


def load_config(path: Path) -> NodeConfig:
    """Raises ConfigError; relative paths are taken from the file's folder."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    base = path.parent

    def file(key: str) -> Path:
        return base / str(_get(table, key, str))

    node_id = str(_get(table, "node_id", str))
    peers: list[Peer] = []
    for number, raw in enumerate(_get(table, "peers", list, [])):
        peer = Peer(*(str(_get(raw, key, str)) for key in ("node_id", "peer_address", "api_address")))
        if peer.node_id in {node_id, *(p.node_id for p in peers)}:
            raise ConfigError(f"peers[{number}].node_id: {peer.node_id!r} is there twice")
        peers.append(peer)
    if len(peers) + 1 not in (1, 3, 5):
        raise ConfigError(f"peers: a cluster has 1, 3 or 5 nodes, not {len(peers) + 1}")
    tariff = _get(table, "tariff.file", str, "")
    return NodeConfig(
        node_id=node_id,
        cluster_id=str(_get(table, "cluster_id", str)),
        data_dir=file("data_dir"),
        api_address=_address(table, "listen.api"),
        peer_address=_address(table, "listen.peer"),
        metrics_address=_address(table, "listen.metrics"),
        peers=tuple(peers),
        tls=TlsPaths(file("tls.ca"), file("tls.cert"), file("tls.key")),
        pin_key_file=file("pin.key_file"),
        tariff_path=base / tariff if tariff else None,
        airtime_provider=_one_of(table, "airtime.provider", PROVIDERS, "instant"),
        fraud_address=_address(table, "fraud.address", ""),
        fraud_deadline_ms=_get(table, "fraud.deadline_ms", int, 50),
        unscored_allow_max_minor=_get(table, "fraud.unscored_allow_max_minor", int, 100_000),
        fraud_rules=_rules(table),
        scored_codes=_scored_codes(table),
        map_gib=_get(table, "ledger.map_gib", int, 64),
        checkpoint_interval_s=_get(table, "ledger.checkpoint_interval_s", float, 5.0),
        reserve_mib=_get(table, "storage.reserve_mib", int, 512),
        scrub_mib_per_s=_get(table, "storage.scrub_mib_per_s", float, 8.0),
        raft=_get(table, "raft", dict, {}),
    )
