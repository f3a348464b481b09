"""A node that is too far behind gets the state itself, piece by piece, while the cluster goes on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from node.consensus.contract import ProposalStatus
from node.consensus.core import SafeRaft
from node.consensus.messages import Append, SnapshotChunk, SnapshotOffer, SnapshotRequest
from node.consensus.seams import ConsensusConfig, InstallSnapshotNow, SnapshotInfo
from tests.consensus.canaries import CompactsBeyondDurable
from tests.consensus.harness import Cluster, SimDisk, SimLog
from tests.consensus.test_guards import Alone, entries

CHUNK = 1_000


def small(**given: object) -> ConsensusConfig:
    """So short a log that a node which is away for a moment needs a snapshot, in many pieces."""
    return ConsensusConfig(  # type: ignore[arg-type]
        **given, log_trailing_entries=10, log_kept_bytes_max=2_000, snapshot_chunk_bytes=CHUNK,
        snapshot_window_bytes=4 * CHUNK,
    )  # fmt: skip


def fill(cluster: Cluster, count: int, name: str = "") -> None:
    leader = cluster.leader()
    assert leader is not None
    for number in range(count):
        cluster.propose(leader, f"{name}{number}".encode())
    cluster.run(0.3)
    for node in cluster.engines:
        cluster.states[node].checkpoint()
    cluster.run(1.5)


def left_behind(**settings: object) -> tuple[Cluster, str]:
    """A cluster whose node c is down and lacks more than the others' logs still have."""
    cluster = Cluster(config=lambda **given: replace(small(**given), **settings))  # type: ignore[arg-type]
    cluster.elect("a")
    fill(cluster, 100, "early")
    cluster.crash("c")
    fill(cluster, 600)
    assert cluster.logs["a"].base_index > cluster.states["c"].applied_position
    return cluster, "c"


def test_node_that_lacks_compacted_entries_gets_a_snapshot_while_the_cluster_goes_on() -> None:
    cluster, away = left_behind()
    cluster.restart(away)
    answers = []
    for number in range(200):
        answers += [cluster.propose("a", b"during %d" % number)]
        cluster.run(0.01)
    assert {answer.status for item in answers for answer in item} == {ProposalStatus.APPLIED}
    assert cluster.installs[away] == 1
    assert cluster.snapshots["a"].read_count > 5
    cluster.finish()
    assert not cluster.violations
    assert cluster.engines[away].status().voter


def test_transfer_goes_on_where_it_was_after_a_break() -> None:
    cluster, away = left_behind(snapshot_bytes_per_s=20_000)
    cluster.restart(away)
    sender = cluster.snapshots["a"]
    cluster.run(5.0, until=lambda: sender.read_count >= 5)
    cluster.crash(away)
    here = len(cluster.staged[away]["data"])  # type: ignore[arg-type]
    assert here >= 3 * CHUNK
    before = sender.read_count
    cluster.restart(away)
    cluster.run(20.0, until=lambda: bool(cluster.installs[away]))
    made = sender.newest()
    assert made is not None
    assert sender.read_count - before <= (made.size - here) // CHUNK + 6  # what was here was not sent again
    cluster.finish()
    assert not cluster.violations


def test_lost_pieces_are_asked_for_again() -> None:
    cluster, away = left_behind()
    cluster.drop, cluster.duplicate = 0.2, 0.2
    cluster.restart(away)
    cluster.run(60.0, until=lambda: bool(cluster.installs[away]))
    assert cluster.installs[away]
    cluster.finish()
    assert not cluster.violations


def test_damaged_bytes_are_dropped_and_fetched_anew() -> None:
    cluster, away = left_behind()
    cluster.restart(away)
    cluster.snapshots[away].damage_next = True
    cluster.run(20.0, until=lambda: bool(cluster.installs[away]))
    assert cluster.snapshots["a"].read_count > 2 * 5
    cluster.finish()
    assert not cluster.violations


def test_another_leader_goes_on() -> None:
    cluster, away = left_behind(snapshot_bytes_per_s=20_000)
    cluster.restart(away)
    cluster.run(5.0, until=lambda: cluster.snapshots["a"].read_count >= 5)
    cluster.isolate("a")  # with two of three, the other one needs this node to commit
    cluster.run(3.0)
    cluster.heal()
    cluster.run(30.0, until=lambda: bool(cluster.installs[away]))
    cluster.finish()
    assert not cluster.violations


def test_asks_for_no_more_than_its_window_and_rate_allow() -> None:
    node = Alone(config=small)
    offer = SnapshotOffer(1, 500, 1, 100 * CHUNK, b"d" * 32)
    node.tell("b", offer)
    assert [message.offset for _, message in node.said(SnapshotRequest)] == [0]
    node.clock.now += 0.08
    node.tell("b", offer)
    assert [message.offset for _, message in node.said(SnapshotRequest)] == [0, CHUNK, 2 * CHUNK, 3 * CHUNK]
    node.clock.now += 0.08
    node.tell("b", offer)
    assert len(node.said(SnapshotRequest)) == 4
    node.tell("b", SnapshotChunk(1, b"d" * 32, 0, b"x" * CHUNK))
    assert [message.offset for _, message in node.said(SnapshotRequest)][4:] == [4 * CHUNK]


def test_pieces_that_do_not_fit_are_dropped() -> None:
    node = Alone(config=small)
    node.tell("b", SnapshotOffer(1, 500, 1, 100 * CHUNK, b"d" * 32))
    for digest, offset, data in ((b"e" * 32, 0, b"x"), (b"d" * 32, CHUNK, b"x"), (b"d" * 32, 0, b"")):
        node.tell("b", SnapshotChunk(1, digest, offset, data))
    receiver = node.engine.core.snapshot_receiver
    assert receiver is not None
    assert receiver.progress == (0, 100 * CHUNK)


def test_snapshot_behind_the_own_state_is_not_wanted() -> None:
    node = Alone(config=small)
    node.tell("b", Append(1, 0, 0, 0, 3, 0, entries(1, b"1", b"2", b"3")))
    node.tell("b", SnapshotOffer(1, 3, 1, CHUNK, b"d" * 32))
    assert not node.said(SnapshotRequest)


def test_offer_of_an_older_term_is_not_heard() -> None:
    node = Alone(config=small)
    node.tell("b", Append(2, 0, 0, 0, 0, 0, []))
    node.tell("c", SnapshotOffer(1, 500, 1, CHUNK, b"d" * 32))
    assert not node.said(SnapshotRequest)
    assert node.engine.status().leader_id == "b"


def test_whole_snapshot_without_its_mark_is_installed_at_the_next_offer() -> None:
    """The node died between the sync of the last piece and the mark: there is nothing left to ask for."""
    node = Alone(config=small)
    rows = b"[]"
    offer = SnapshotOffer(1, 500, 1, len(rows), hashlib.blake2b(rows, digest_size=32).digest())
    receiver = node.engine.core.snapshot_receiver
    assert receiver is not None
    snapshots = receiver._snapshots
    snapshots.received(SnapshotInfo(500, len(rows), offer.digest))
    snapshots.write(SnapshotInfo(500, len(rows), offer.digest), 0, rows)
    with pytest.raises(InstallSnapshotNow):
        node.tell("b", offer)


def test_complete_snapshot_ends_the_round_before_anything_else_is_said() -> None:
    node = Alone(config=small)
    rows = b"[]"
    digest = hashlib.blake2b(rows, digest_size=32).digest()
    node.tell("b", SnapshotOffer(1, 500, 1, len(rows), digest))
    with pytest.raises(InstallSnapshotNow):
        node.tell("b", SnapshotChunk(1, digest, 0, rows))
    assert node.snapshots.received(SnapshotInfo(500, len(rows), digest)) == len(rows)


# What an install does to the log


def _log_of(*terms: int) -> SimLog:
    log = SimLog(SimDisk())
    for term in terms:
        log.set_term(term, "")
        log.append(term, b"x")
    log.sync()
    return log


def test_install_keeps_what_follows_the_same_entry() -> None:
    log = _log_of(1, 1, 2, 2)
    log.install(3, 2)
    assert (log.base_index, log.last_index, log.last_term) == (3, 4, 2)


def test_install_drops_what_follows_another_entry() -> None:
    log = _log_of(1, 1, 2, 2)
    log.install(3, 5)
    assert (log.base_index, log.last_index, log.last_term, log.term) == (3, 3, 5, 5)


# Compaction


@pytest.mark.parametrize(("core_class", "lost"), [(SafeRaft, False), (CompactsBeyondDurable, True)])
def test_what_only_the_log_holds_is_not_compacted(core_class: type[SafeRaft], lost: bool) -> None:
    cluster = Cluster(config=small, core_class=core_class)
    leader = cluster.elect()
    for number in range(600):
        cluster.propose(leader, b"%d" % number)
    cluster.run(2.0)
    for node in cluster.ids:
        cluster.crash(node)
    if lost:
        with pytest.raises(Exception, match="cannot be continued"):
            cluster.restart("a")
        return
    cluster.finish()
    assert not cluster.violations


@pytest.mark.parametrize(("trailing_bytes", "kept"), [(50_000, 50), (1 << 30, 400)])
def test_trailing_window_is_bounded_in_bytes(trailing_bytes: int, kept: int) -> None:
    def config(**given: object) -> ConsensusConfig:
        return ConsensusConfig(  # type: ignore[arg-type]
            **given, log_trailing_entries=400, log_trailing_bytes_max=trailing_bytes, compact_entries_min=1
        )

    cluster = Cluster(config=config)
    leader = cluster.elect()
    for number in range(600):
        cluster.propose(leader, b"%01000d" % number)
    cluster.run(0.3)
    for state in cluster.states.values():
        state.checkpoint()
    cluster.run(2.5)
    log = cluster.logs[leader]
    assert kept <= log.last_index - log.base_index <= kept + 2


def test_log_is_kept_while_a_snapshot_is_being_received() -> None:
    cluster, away = left_behind(snapshot_bytes_per_s=10_000)
    cluster.restart(away)
    sender = cluster.snapshots["a"]
    cluster.run(5.0, until=lambda: sender.read_count >= 2)
    for part in range(5):
        fill(cluster, 300, f"more {part} ")
    made = sender.newest()
    assert made is not None
    assert cluster.logs["a"].base_index <= made.position
    cluster.run(30.0, until=lambda: bool(cluster.installs[away]))
    cluster.finish()
    assert not cluster.violations
    assert cluster.installs[away] == 1
