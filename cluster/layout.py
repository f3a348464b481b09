"""Where everything of one local cluster lives: its ports, its folders, its processes.

Several clusters run side by side on one machine, so nothing here is a global: a `Layout` is made from a folder and a
port base, and everything else follows from the two.
"""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
HOME_VARIABLE = "KIBUBU_HOME"
PORT_BASE_VARIABLE = "KIBUBU_PORT_BASE"
PORT_BASE_DEFAULT = 7100
PORTS_PER_CLUSTER = 100
CLUSTER_ID = "kibubu-dev"
NODE_IDS = ("n1", "n2", "n3")
FRAUD = "fraud"
EDGE = "edge"
SMS = "sms"
REVIEW = "review"
PROMETHEUS = "prometheus"
LOOPBACK = "127.0.0.1"
# The free port search stays below the range that the kernel gives to outgoing connections.
_FREE_PORT_LOW, _FREE_PORT_HIGH = 12_000, 30_000
_FREE_PORT_TRIES_MAX = 200


class LayoutError(Exception):
    """The environment names a folder or a port base that cannot be used."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How one process is started when it is not started plainly: in a network of its own, with a library preloaded."""

    prefix: tuple[str, ...] = ()  # before the command; must exec it, so that the process id is the node's
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    home: Path
    port_base: int
    python: str = sys.executable
    fraud_model_dir: Path = PROJECT_ROOT / "fraud" / "model"
    hosts: Mapping[str, str] = field(default_factory=dict)  # process: its address, where it is not loopback
    launches: Mapping[str, Launch] = field(default_factory=dict)

    @property
    def node_ids(self) -> tuple[str, ...]:
        return NODE_IDS

    @property
    def services(self) -> tuple[str, ...]:
        """In the order in which they start; they stop in the opposite one."""
        return (FRAUD, *NODE_IDS, EDGE, SMS, REVIEW, PROMETHEUS)

    def _node_port(self, node_id: str, offset: int) -> int:
        if node_id not in NODE_IDS:
            raise LayoutError(f"there is no node {node_id!r}; the nodes are {', '.join(NODE_IDS)}")
        return self.port_base + 10 * (NODE_IDS.index(node_id) + 1) + offset

    def _address(self, name: str, port: int) -> str:
        return f"{self.hosts.get(name, LOOPBACK)}:{port}"

    def api_address(self, node_id: str) -> str:
        return self._address(node_id, self._node_port(node_id, 1))

    def peer_address(self, node_id: str) -> str:
        return self._address(node_id, self._node_port(node_id, 2))

    def metrics_address(self, name: str) -> str:
        if name == FRAUD:
            return self._address(name, self.port_base + 43)
        if name == EDGE:
            return self._address(name, self.port_base + 53)
        if name == SMS:
            return self._address(name, self.port_base + 63)
        if name == REVIEW:
            return self._address(name, self.port_base + 73)
        return self._address(name, self._node_port(name, 3))

    @property
    def api_addresses(self) -> tuple[str, ...]:
        return tuple(self.api_address(node_id) for node_id in NODE_IDS)

    @property
    def fraud_address(self) -> str:
        return self._address(FRAUD, self.port_base + 41)

    @property
    def edge_address(self) -> str:
        return self._address(EDGE, self.port_base + 51)

    @property
    def review_address(self) -> str:
        """Of the analysts' page; loopback always, since it speaks plain HTTP."""
        return f"{LOOPBACK}:{self.port_base + 71}"

    @property
    def prometheus_address(self) -> str:
        return f"{LOOPBACK}:{self.port_base + 90}"

    @property
    def ports(self) -> tuple[int, ...]:
        addresses = [
            *self.api_addresses,
            *(self.peer_address(node_id) for node_id in NODE_IDS),
            *(self.metrics_address(name) for name in (*NODE_IDS, FRAUD, EDGE, SMS, REVIEW)),
            self.fraud_address,
            self.edge_address,
            self.review_address,
            self.prometheus_address,
        ]
        return tuple(int(address.rpartition(":")[2]) for address in addresses)

    @property
    def certificates(self) -> Path:
        return self.home / "certificates"

    @property
    def pin_key_file(self) -> Path:
        return self.home / "keys" / "pin.key"

    @property
    def session_key_file(self) -> Path:
        return self.home / "keys" / "session.key"

    @property
    def analysts_file(self) -> Path:
        """Who may log in to the analysts' page: names and hashes of tokens."""
        return self.home / "keys" / "analysts.json"

    @property
    def sms_file(self) -> Path:
        """Where the texts go that a real cluster would send to phones."""
        return self.data_dir(SMS) / "texts.jsonl"

    def config_file(self, name: str) -> Path:
        return self.home / "config" / ("prometheus.yml" if name == PROMETHEUS else f"{name}.toml")

    def data_dir(self, name: str) -> Path:
        return self.home / "data" / name

    def log_file(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        return self.home / "run" / f"{name}.json"

    def launch(self, name: str) -> Launch:
        return self.launches.get(name, Launch())

    def command(self, name: str) -> list[str]:
        """How `python -m ...` starts this process (Prometheus is a program of its own)."""
        modules = {FRAUD: "fraud.serve", EDGE: "ussd_edge", SMS: "ussd_edge.sms", REVIEW: "fraud.review_page"}
        module = modules.get(name, "node")
        return [*self.launch(name).prefix, self.python, "-m", module, "--config", str(self.config_file(name))]


def layout_from_environment(environment: Mapping[str, str] = os.environ) -> Layout:
    home = Path(environment.get(HOME_VARIABLE) or PROJECT_ROOT / ".kibubu").expanduser().absolute()
    raw = environment.get(PORT_BASE_VARIABLE) or str(PORT_BASE_DEFAULT)
    if not (raw.isascii() and raw.isdecimal() and 1_024 <= int(raw) <= 65_535 - PORTS_PER_CLUSTER):
        raise LayoutError(f"{PORT_BASE_VARIABLE}: must be 1024..{65_535 - PORTS_PER_CLUSTER}, is {raw!r}")
    return Layout(home=home, port_base=int(raw))


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port_base() -> int:
    """A port base on which nothing listens now; for tests and for temporary clusters."""
    for _ in range(_FREE_PORT_TRIES_MAX):
        base = random.randrange(_FREE_PORT_LOW, _FREE_PORT_HIGH, PORTS_PER_CLUSTER)
        if all(_is_free(port) for port in Layout(home=Path(), port_base=base).ports):
            return base
    raise LayoutError("found no free range of ports")
