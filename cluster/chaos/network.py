"""A network of its own for every node: namespaces joined by a bridge, or by a hub in user space that can delay.

The run itself, the sidecar and the edge stay outside and reach every node at all times: what is cut is node from node.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.layout import EDGE, FRAUD, NODE_IDS, PROJECT_ROOT, Launch

_NETWORK = "198.18"  # RFC 2544: for tests of networks, routed nowhere
_OUTSIDE_HOST = 254
_OUTSIDE = "outside"
_COMMAND_TIMEOUT_S = 20
_HUB_WAIT_S = 20.0
_RULES = """table inet chaos {
 chain arrives { type filter hook input priority 0; policy accept; }
}
"""


class NetworkError(Exception):
    """The machine does not let a network be built; the message has the command and its answer."""


def run(*command: str, text: str | None = None) -> str:
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Network:
    """Made by open_network(); its names are its own, so that several stand side by side."""

    def __init__(self, *, with_hub: bool, folder: Path) -> None:
        self._tag = f"kb{secrets.token_hex(2)}"
        self._subnet = f"{_NETWORK}.{_free_subnet()}"
        self._with_hub = with_hub
        self._link_file = folder / "links.json"
        self._ready_file = folder / "hub.ready"
        self._hub: subprocess.Popen[bytes] | None = None
        self.hosts = {node_id: f"{self._subnet}.{number}" for number, node_id in enumerate(NODE_IDS, 1)}
        self.hosts |= dict.fromkeys((FRAUD, EDGE), f"{self._subnet}.{_OUTSIDE_HOST}")

    def namespace(self, node_id: str) -> str:
        return f"{self._tag}{node_id}"

    def launches(self) -> dict[str, Launch]:
        """nsenter, because `ip netns exec` would also give each node mounts of its own, and an unmounted volume would
        live on in the other nodes' copies."""
        return {n: Launch(prefix=("nsenter", f"--net=/var/run/netns/{self.namespace(n)}", "--")) for n in NODE_IDS}

    # --- building ---------------------------------------------------------------------------------------------------

    def build(self) -> None:
        for node_id in NODE_IDS:
            run("ip", "netns", "add", self.namespace(node_id))
        if self._with_hub:
            self._start_hub()
        else:
            self._build_bridge()
        for node_id in NODE_IDS:
            space = self.namespace(node_id)
            run("ip", "-n", space, "addr", "add", f"{self.hosts[node_id]}/24", "dev", "e0")
            run("ip", "-n", space, "link", "set", "e0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
            self._load_rules(node_id, _RULES)
        run("ip", "addr", "add", f"{self.hosts[FRAUD]}/24", "dev", self._outside_device)
        run("ip", "link", "set", self._outside_device, "up")

    @property
    def _outside_device(self) -> str:
        return f"{self._tag}out"

    def _build_bridge(self) -> None:
        middle = self.namespace("mid")
        run("ip", "netns", "add", middle)
        run("ip", "-n", middle, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", middle, "link", "set", "br0", "up")
        for node_id in NODE_IDS:
            run(
                "ip", "-n", middle, "link", "add", f"to{node_id}", "type", "veth",
                "peer", "name", "e0", "netns", self.namespace(node_id),
            )  # fmt: skip
            run("ip", "-n", middle, "link", "set", f"to{node_id}", "master", "br0", "up")
        run("ip", "link", "add", self._outside_device, "type", "veth", "peer", "name", "toout", "netns", middle)
        run("ip", "-n", middle, "link", "set", "toout", "master", "br0", "up")

    def _start_hub(self) -> None:
        self._link_file.write_text("{}", encoding="utf-8")
        ports = [f"{node_id}={self.namespace(node_id)}:e0" for node_id in NODE_IDS]
        ports.append(f"{_OUTSIDE}=:{self._outside_device}")
        self._hub = subprocess.Popen(
            [sys.executable, "-m", "cluster.chaos.hub", str(self._link_file), str(self._ready_file), *ports],
            cwd=PROJECT_ROOT,
            start_new_session=True,
        )
        end_s = time.monotonic() + _HUB_WAIT_S
        while not self._ready_file.exists():
            if self._hub.poll() is not None or time.monotonic() > end_s:
                raise NetworkError("the user-space hub does not start; its error is above")
            time.sleep(0.02)

    def destroy(self) -> None:
        if self._hub is not None:
            self._hub.send_signal(signal.SIGTERM)
            self._hub.wait()
        for command in (
            ("ip", "link", "del", self._outside_device),
            *(("ip", "netns", "del", self.namespace(name)) for name in (*NODE_IDS, "mid")),
        ):
            subprocess.run(command, capture_output=True, check=False, timeout=_COMMAND_TIMEOUT_S)

    # --- hurting ----------------------------------------------------------------------------------------------------

    def _load_rules(self, node_id: str, rules: str) -> None:
        run("ip", "netns", "exec", self.namespace(node_id), "nft", "-f", "-", text=rules)

    def drop(self, sender: str, receiver: str, *, percent: int = 100) -> None:
        """Of what `sender` sends, `receiver` gets so much less. The other way is untouched."""
        chance = "" if percent >= 100 else f"numgen random mod 100 < {percent} "
        rule = f"add rule inet chaos arrives ip saddr {self.hosts[sender]} {chance}counter drop\n"
        self._load_rules(receiver, rule)

    def cut(self, one: str, other: str) -> None:
        self.drop(one, other)
        self.drop(other, one)

    def isolate(self, node_id: str) -> None:
        for other in NODE_IDS:
            if other != node_id:
                self.cut(node_id, other)

    def dropped(self) -> int:
        """Packets that the rules have swallowed since the last heal."""
        total = 0
        for node_id in NODE_IDS:
            listed = run("ip", "netns", "exec", self.namespace(node_id), "nft", "-j", "list", "table", "inet", "chaos")
            total += sum(_counted(json.loads(listed)["nftables"]))
        return total

    def heal(self) -> None:
        for node_id in NODE_IDS:
            self._load_rules(node_id, "flush chain inet chaos arrives\n")
        if self._with_hub:
            self.set_links({})

    def set_links(self, links: dict[str, dict[str, float]]) -> None:
        """With the hub: "n1>n2" -> delay_ms, jitter_ms, loss, duplicate, reorder (shares of 1)."""
        temporary = self._link_file.with_suffix(".new")
        temporary.write_text(json.dumps(links), encoding="utf-8")
        temporary.replace(self._link_file)


def _counted(rules: Sequence[dict[str, dict[str, object]]]) -> Iterator[int]:
    for item in rules:
        expressions = item.get("rule", {}).get("expr", [])
        if isinstance(expressions, list):
            yield from (int(e["counter"]["packets"]) for e in expressions if isinstance(e.get("counter"), dict))


def _free_subnet() -> int:
    used = run("ip", "-o", "-4", "addr", "show")
    for _ in range(100):
        number = secrets.randbelow(256)
        if f"{_NETWORK}.{number}." not in used:
            return number
    raise NetworkError(f"no free network in {_NETWORK}.0.0/16")


def every_link(sources: Iterable[str], rule: dict[str, float]) -> dict[str, dict[str, float]]:
    return {f"{a}>{b}": rule for a in sources for b in NODE_IDS if a != b}


@contextmanager
def open_network(folder: Path, *, with_hub: bool) -> Iterator[Network]:
    """Raises NetworkError when the machine forbids it; whatever was built is taken away again."""
    network = Network(with_hub=with_hub, folder=folder)
    try:
        network.build()
        yield network
    finally:
        network.destroy()


def enter_namespace(name: str) -> None:
    """The calling thread's network from now on; the empty name stays where it is."""
    if not name:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/var/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(descriptor, 0x40000000):  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), f"setns {name}")
    finally:
        os.close(descriptor)
