"""Roles from certificates, configuration mistakes, the entry that ends pending transfers by time, and failing disks."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest
from prometheus_client import CollectorRegistry

from node.consensus.contract import ProposalStatus
from node.service.auth import role_of
from node.service.config import ConfigError, load_config
from node.service.expiry import Expiry
from node.service.guard import Guard
from node.service.metrics import NodeMetrics
from node.storage.checked import DamagedDataError
from tests.service.hand_driven import HandDriven

GOOD = """
node_id = "n1"
cluster_id = "c"
data_dir = "data"
[listen]
api = "127.0.0.1:1"
peer = "127.0.0.1:2"
metrics = "127.0.0.1:3"
[tls]
ca = "ca"
cert = "cert"
key = "key"
[pin]
key_file = "pin"
"""
PEERS = "".join(f'[[peers]]\nnode_id = "{n}"\npeer_address = "h:1"\napi_address = "h:2"\n' for n in ("n2", "n3"))


@pytest.mark.parametrize(
    ("uris", "role"),
    [
        ([b"spiffe://kibubu/edge/e1"], "edge"),
        ([b"spiffe://kibubu/operator/anna"], "operator"),
        ([], ""),
        ([b"spiffe://kibubu/edge/e1", b"spiffe://kibubu/operator/x"], ""),
        ([b"spiffe://kibubu/operator"], ""),
        ([b"spiffe://kibubu/operator/"], ""),
        ([b"spiffe://kibubu/operator/a/b"], ""),
        ([b"spiffe://kibubu.evil/operator/a"], ""),
        ([b"\xff\xfe"], ""),
    ],
)
def test_the_role_is_in_the_only_uri(uris: list[bytes], role: str) -> None:
    assert role_of({"peer_uri": uris}) == role


def test_a_good_configuration(tmp_path: Path) -> None:
    path = tmp_path / "n.toml"
    path.write_text(GOOD + PEERS, encoding="utf-8")
    config = load_config(path)
    assert config.data_dir == tmp_path / "data"
    assert [peer.node_id for peer in config.peers] == ["n2", "n3"]
    assert config.api_address_of("n3") == "h:2"
    assert config.api_address_of("n1") == "127.0.0.1:1"
    assert config.api_address_of("n9") == ""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('node_id = "n1"', "", "node_id: missing"),
        ('node_id = "n1"', "node_id = 1", "node_id: must be str"),
        ('api = "127.0.0.1:1"', 'api = "127.0.0.1"', "listen.api: must be host:port"),
        ('api = "127.0.0.1:1"', 'api = "127.0.0.1:99999"', "listen.api: must be host:port"),
        ('ca = "ca"', "", "tls.ca: missing"),
        ('key_file = "pin"', "", "pin.key_file: missing"),
        ("[pin]", "[pin", "n.toml"),
        ("[pin]", "[fraud]\nscore_transfers = 1\n[pin]", "fraud.score_transfers: must be bool"),
        ("[pin]", "[fraud]\nscored_codes = []\n[pin]", "fraud.scored_codes: must be 1 to 64"),
        ("[pin]", "[fraud]\nscored_codes = [2, 65536]\n[pin]", "fraud.scored_codes[1]: must be 1 to 65535"),
        ("[pin]", "[fraud]\nscored_codes = [true]\n[pin]", "fraud.scored_codes[0]: must be 1 to 65535"),
        ("[pin]", '[airtime]\nprovider = "nobody"\n[pin]', "airtime.provider: must be one of instant, simulated"),
        ("[pin]", "[airtime]\nprovider = 7\n[pin]", "airtime.provider: must be str"),
        ('node_id = "n3"', 'node_id = "n2"', "peers[1].node_id: 'n2' is there twice"),
        ('node_id = "n3"', 'node_id = "n1"', "peers[1].node_id: 'n1' is there twice"),
    ],
)
def test_a_mistake_names_its_key(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = GOOD + PEERS
    assert old in text
    path = tmp_path / "n.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert complaint in str(caught.value)


def test_raw_transfers_are_scored_only_where_the_operator_says_so(tmp_path: Path) -> None:
    path = tmp_path / "n.toml"
    said = {"": (), "score_transfers = true": (2, 6), "score_transfers = true\nscored_codes = [1200]": (1_200,)}
    for text, codes in said.items():
        table = f"[fraud]\n{text}\n[pin]"
        path.write_text(GOOD.replace("[pin]", table, 1) + PEERS, encoding="utf-8")
        assert load_config(path).scored_codes == codes


def test_a_cluster_of_two_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.toml"
    path.write_text(GOOD + PEERS[: len(PEERS) // 2], encoding="utf-8")
    with pytest.raises(ConfigError, match="1, 3 or 5"):
        load_config(path)


def test_expiry_proposes_once_when_due_and_again_when_lost() -> None:
    engine, due = HandDriven(), [0]
    expiry = Expiry(engine, lambda: due[0], lambda: 100)
    assert not expiry.propose_if_due()
    due[0] = 101
    assert not expiry.propose_if_due()
    due[0] = 100
    engine.is_leader = False
    assert not expiry.propose_if_due()
    engine.is_leader = True
    assert expiry.propose_if_due()
    assert not expiry.propose_if_due()
    assert len(engine.proposals) == 1
    assert engine.proposals[0][0].timestamp_ns == 100
    engine.end(ProposalStatus.UNKNOWN)
    assert expiry.propose_if_due()
    engine.apply()
    due[0] = 0
    assert not expiry.propose_if_due()


async def test_a_storage_failure_in_a_call_ends_the_node() -> None:
    failures: list[BaseException] = []
    guard = Guard(HandDriven(), NodeMetrics(CollectorRegistry()), lambda: "")
    guard.on_storage_failure = failures.append

    class Context:
        code: object = None

        async def abort(self, code: object, details: str) -> None:
            self.code = code

    for error in (DamagedDataError("a bit"), lmdb.DiskError("no")):
        async with guard.call("GetStatement", Context()):
            raise error
    async with guard.call("GetStatement", Context()):
        raise ValueError("a bug in one call is not the end of the node")
    assert [str(error) for error in failures] == ["a bit", "no"]
