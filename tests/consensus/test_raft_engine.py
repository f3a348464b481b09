"""The engine's thread, its bounds and its end; the pinned library; what may be compacted."""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pysyncobj
import pysyncobj.pickle
import pysyncobj.syncobj
import pytest

from node.consensus.adapters import JournalView
from node.consensus.contract import LogEntry, ProposalOutcome, ProposalStatus
from node.consensus.core import SafeRaft
from node.consensus.engine import RaftEngine
from node.consensus.pinned import SOURCES_SHA256, UnexpectedEngineError, check_sources
from node.consensus.seams import ConsensusConfig, SystemClock
from node.ledger.entry import ENTRY_BYTES_MAX
from node.storage.raft_log import RaftLog
from tests.consensus.harness import Cluster, Recorder, SimDisk, SimLog, SimTransport

ROOT = Path(__file__).parents[2]
LAYERS = SafeRaft.__mro__[: SafeRaft.__mro__.index(pysyncobj.syncobj.SyncObj)]


class Single:
    """A cluster of one, on its own thread, with a real journal."""

    def __init__(self, folder: Path, state: Recorder | None = None, **settings: object) -> None:
        self.fatal: list[str] = []
        self.died = threading.Event()
        self.state = state or Recorder()
        config = ConsensusConfig("a", "c", **settings)  # type: ignore[arg-type]
        log = RaftLog(folder, cluster_id="c", node_id="a", segment_bytes=1 << 20)
        transport = SimTransport(lambda peer, frame: True)
        self.engine = RaftEngine(config, log, transport, SystemClock(), self.state, on_fatal=self._on_fatal)

    def start(self) -> None:
        self.engine.start()
        ready = threading.Event()
        while not ready.wait(0.01):
            if self.engine.status().ready or self.died.is_set():
                ready.set()

    def propose(self, data: bytes) -> ProposalOutcome:
        done = threading.Event()
        outcomes: list[ProposalOutcome] = []

        def answer(outcome: ProposalOutcome) -> None:
            outcomes.append(outcome)
            done.set()

        self.engine.propose(data, answer)
        if not done.wait(30):
            raise TimeoutError
        return outcomes[0]

    def _on_fatal(self, reason: str) -> None:
        self.fatal.append(reason)
        self.died.set()


def test_threads_propose_and_each_hears_once(tmp_path: Path) -> None:
    single = Single(tmp_path)
    single.start()
    outcomes: list[ProposalOutcome] = []

    def work(name: int) -> None:
        outcomes.extend(single.propose(b"%d-%d" % (name, number)) for number in range(50))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {outcome.status for outcome in outcomes} == {ProposalStatus.APPLIED}
    assert len({outcome.position for outcome in outcomes}) == 400
    assert len(set(single.state.data())) == 400
    single.engine.stop()


def test_restart_replays_the_journal(tmp_path: Path) -> None:
    single = Single(tmp_path)
    single.start()
    for number in range(20):
        single.propose(b"%d" % number)
    single.engine.stop()
    again = Single(tmp_path, Recorder(single.state.rows[:7]))
    again.start()
    assert again.state.data() == [b"%d" % number for number in range(20)]
    again.engine.stop()


def test_error_on_the_thread_is_fatal_and_nothing_is_acknowledged_after(tmp_path: Path) -> None:
    class Broken(Recorder):
        def apply(self, entries: Sequence[LogEntry]) -> list[object]:
            if any(entry.data == b"poison" for entry in entries):
                raise ValueError("the ledger does not add up")
            return super().apply(entries)

    single = Single(tmp_path, Broken())
    single.start()
    outcomes: list[ProposalOutcome] = []
    single.engine.propose(b"poison", outcomes.append)
    assert single.died.wait(30)
    assert single.fatal == ["ValueError: the ledger does not add up"]
    assert not outcomes
    assert single.propose(b"x").status is ProposalStatus.REFUSED_STOPPING
    single.engine.stop()
    assert [outcome.status for outcome in outcomes] == [ProposalStatus.UNKNOWN]


def test_fatal_error_ends_the_process_with_a_reason() -> None:
    code = "from node.consensus.engine import exit_at_once; exit_at_once('broken'); print('still here')"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=_environment(), capture_output=True, check=False)
    assert (run.returncode, run.stderr, run.stdout) == (70, b"fatal: broken\n", b"")


def test_stop_refuses_what_comes_after(tmp_path: Path) -> None:
    single = Single(tmp_path)
    single.start()
    single.engine.stop()
    single.engine.stop()
    assert single.propose(b"x").status is ProposalStatus.REFUSED_STOPPING
    reads: list[int | None] = []
    single.engine.read_index(reads.append)
    assert reads == [None]


def test_stop_says_unknown_for_what_is_in_the_log() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.isolate(leader)
    appended = cluster.propose(leader, b"x")
    cluster.settle()
    queued = cluster.propose(leader, b"y")
    reads = cluster.read(leader)
    cluster.engines[leader].stop()
    assert [outcome.status for outcome in appended] == [ProposalStatus.UNKNOWN]
    assert [outcome.status for outcome in queued] == [ProposalStatus.REFUSED_STOPPING]
    assert reads == [None]


@pytest.mark.parametrize("settings", [{"queue_length_max": 3}, {"queue_bytes_max": 30}])
def test_queue_is_bounded(settings: dict[str, int]) -> None:
    cluster = Cluster(config=lambda **given: ConsensusConfig(**given, **settings))
    leader = cluster.elect()
    cluster.isolate(leader)
    answers = [cluster.propose(leader, b"%010d" % number) for number in range(4)]
    cluster.settle()
    assert [len(answer) for answer in answers] == [0, 0, 0, 1]
    assert answers[3][0].status is ProposalStatus.REFUSED_QUEUE_FULL
    assert cluster.engines[leader].queue_length() == 3
    cluster.heal()
    cluster.run(2.0, until=lambda: all(answers))
    assert cluster.engines[leader].queue_length() == 0


def test_entry_at_its_maximum_and_one_more() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    answers = cluster.propose(leader, b"x" * ENTRY_BYTES_MAX)
    cluster.run(0.1)
    assert answers[0].status is ProposalStatus.APPLIED
    for data in (b"", b"x" * (ENTRY_BYTES_MAX + 1)):
        with pytest.raises(ValueError, match="an entry has"):
            cluster.propose(leader, data)


# Compaction


def _short_log(**given: object) -> ConsensusConfig:
    return ConsensusConfig(**given, log_trailing_entries=10, log_bytes_max=60_000)  # type: ignore[arg-type]


class ForgetsAbsentPeers(SafeRaft):
    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        self.log.compact(min(self.state_machine.durable_position, self.commit_index()) - 10)


@pytest.mark.parametrize(("core_class", "forgotten"), [(SafeRaft, False), (ForgetsAbsentPeers, True)])
def test_log_is_kept_for_a_node_that_is_away(core_class: type[SafeRaft], forgotten: bool) -> None:
    cluster = Cluster(config=_short_log, core_class=core_class)
    leader = cluster.elect()
    away = next(node for node in cluster.ids if node != leader)
    cluster.crash(away)
    _fill(cluster, leader, 600)
    cluster.restart(away)
    cluster.run(3.0)
    assert len(cluster.states[away].data()) == 600
    assert bool(cluster.installs[away]) == forgotten


def test_log_is_compacted_on_all_nodes_when_all_have_it() -> None:
    cluster = Cluster(config=_short_log)
    leader = cluster.elect()
    _fill(cluster, leader, 600)
    bases = [log.base_index for log in cluster.logs.values()]
    assert min(bases) > 256
    assert max(bases) <= 601 - 10
    cluster.crash(leader)
    cluster.run(3.0, until=lambda: cluster.leader() is not None)
    cluster.restart(leader)
    cluster.finish()
    assert not cluster.violations


def test_only_what_the_state_holds_durably_is_compacted() -> None:
    cluster = Cluster(config=_short_log)
    leader = cluster.elect()
    _fill(cluster, leader, 600, checkpoint=False)
    assert {log.base_index for log in cluster.logs.values()} == {0}


def test_log_at_its_bound_refuses_until_the_state_is_durable() -> None:
    cluster = Cluster(config=_short_log)
    leader = cluster.elect()
    for number in range(700):
        cluster.propose(leader, b"%0100d" % number)
    cluster.run(0.2)
    assert cluster.outcomes[ProposalStatus.APPLIED] == 600
    assert cluster.outcomes[ProposalStatus.REFUSED_QUEUE_FULL] == 100
    for state in cluster.states.values():
        state.checkpoint()
    cluster.run(3.0)
    cluster.propose(leader, b"again")
    cluster.run(0.1)
    assert b"again" in cluster.acknowledged


def _fill(cluster: Cluster, leader: str, count: int, checkpoint: bool = True) -> None:
    for number in range(count):
        cluster.propose(leader, b"%d" % number)
    cluster.run(0.2)
    for node in cluster.engines:
        if checkpoint:
            cluster.states[node].checkpoint()
    cluster.run(2.5)
    assert len(cluster.acknowledged) == count


# The pinned library


def test_other_source_is_refused(tmp_path: Path) -> None:
    folder = Path(pysyncobj.__file__).parent
    for name in SOURCES_SHA256:
        shutil.copy(folder / name, tmp_path)
    check_sources(tmp_path)
    (tmp_path / "syncobj.py").write_bytes((folder / "syncobj.py").read_bytes() + b"\n")
    with pytest.raises(UnexpectedEngineError, match=r"syncobj\.py has sha256"):
        check_sources(tmp_path)


def test_every_overridden_name_exists() -> None:
    """A private method that the library does not have would be a guard that never runs."""
    known = vars(pysyncobj.syncobj.SyncObj)
    ours = {name for layer in LAYERS for name in vars(layer)}
    overridden = [name for name in ours if name.startswith("_SyncObj__") or name in ("_checkCommandsToApply",)]
    assert len(overridden) == 11
    assert [name for name in overridden if name not in known] == []


def test_every_private_attribute_that_is_used_exists() -> None:
    sources = [Path(inspect.getfile(layer)).read_text() for layer in LAYERS]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    private = {name for name in used if name.startswith("_SyncObj__")}
    cluster = Cluster()
    missing = [name for name in private if not hasattr(cluster.engines["a"].core, name)]
    assert private
    assert not missing


def test_journal_view_has_all_that_the_library_still_calls() -> None:
    called = set()
    for node in ast.walk(ast.parse(Path(pysyncobj.syncobj.__file__).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Attribute) and owner.attr == "__raftLog":
                called.add(node.func.attr)
    replaced = {"add", "clear", "deleteEntriesFrom", "deleteEntriesTo", "_destroy"}  # by our overrides
    inherited = {"onOneSecondTimer"}
    assert called - replaced - inherited == {name for name in vars(JournalView) if not name.startswith("_")}


FORBIDDEN = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"}


def _imports(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {part for name in names for part in name.split(".")}


def test_nothing_imports_pickle() -> None:
    files = [path for package in ("consensus", "storage") for path in (ROOT / "node" / package).rglob("*.py")]
    assert len(files) > 10
    assert {path.name for path in files if _imports(path.read_text()) & FORBIDDEN} == set()
    assert _imports("from pysyncobj import pickle as p") & FORBIDDEN  # the check can fail


def test_nothing_is_pickled_while_the_cluster_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> Callable[[], None]:
        raise RuntimeError("something was pickled")

    for module in (pickle, pysyncobj.pickle):
        for name in ("loads", "dumps", "load", "dump"):
            monkeypatch.setattr(module, name, refuse, raising=False)
    cluster = Cluster()
    leader = cluster.elect()
    cluster.propose(leader, b"\x80\x04K\x01.")  # what looks like a pickle, or like pysyncobj's commands, is only bytes
    cluster.propose(leader, b"\x02\x80\x04K\x01.")
    cluster.run(0.1)
    cluster.crash(leader)
    cluster.run(2.0)
    cluster.finish()
    assert not cluster.violations
    assert len(cluster.acknowledged) == 2


def test_engine_opens_no_port_of_its_own() -> None:
    code = (
        "import socket\n"
        "def refuse(*args): raise RuntimeError('a socket was bound')\n"
        "socket.socket.bind = refuse\n"
        "from tests.consensus.harness import Cluster\n"
        "print(Cluster().elect())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=_environment(), capture_output=True, check=False)
    assert run.stdout.strip() in (b"a", b"b", b"c"), run.stderr


def test_work_does_not_grow_with_the_length_of_the_log() -> None:
    """One more entry on a log of 20,000 reads and writes no more than on a short one."""

    class CountingLog(SimLog):
        calls = 0

        def term_at(self, index: int) -> int | None:
            CountingLog.calls += 1
            return super().term_at(index)

        def read(self, first: int, count_max: int, bytes_max: int) -> list[tuple[int, bytes]]:
            rows = super().read(first, count_max, bytes_max)
            CountingLog.calls += len(rows)
            return rows

    cluster = Cluster(log_class=CountingLog)
    leader = cluster.elect()
    costs = []
    for target in (100, 20_000):
        while cluster.logs[leader].last_index < target:
            for number in range(min(5_000, target)):
                cluster.propose(leader, b"%d" % number)
            cluster.run(0.05)
        cluster.run(0.2)
        before = CountingLog.calls
        cluster.propose(leader, b"one more")
        cluster.settle()
        cluster.run(0.008)
        costs.append(CountingLog.calls - before)
    assert costs[1] <= costs[0] + 5


def _environment() -> dict[str, str]:
    return dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'proto/gen'}")


def test_disk_of_the_simulator_loses_what_was_not_synced() -> None:
    disk = SimDisk()
    log = SimLog(disk)
    log.append(0, b"x")
    assert SimLog(disk).last_index == 0
    log.sync()
    assert SimLog(disk).last_index == 1
