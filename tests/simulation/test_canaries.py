"""The track record: every known bug, switched on by name, is found. By random schedules where they can; where they
cannot (several wrongs would have to meet), by a directed test of the very moment, with the guard and without it."""

from __future__ import annotations

import importlib
import random
from collections import Counter
from pathlib import Path

import pytest

from node.consensus.core import SafeRaft
from node.consensus.messages import Append, AppendReply, RequestVote, Vote
from node.storage.host import Host
from node.storage.raft_log import RaftLog
from tests.consensus.harness import PowerCutError
from tests.consensus.test_guards import Alone, entries
from tests.simulation.canaries import CORES, NAMES, switched_on
from tests.simulation.disk import SimDisk
from tests.simulation.plan import make_plan
from tests.simulation.run import run_plan

# canary -> profile of the schedules, and how many of them may be tried
BY_RANDOM_SCHEDULES = {
    "acknowledge_before_sync": ("replication", 60),
    "sync_after_send": ("replication", 60),
    "commit_when_appended": ("anything", 60),
    "read_without_quorum": ("reads", 60),
    "read_without_noop": ("reads", 90),
    "compaction_beyond_durable": ("replication", 30),
    "apply_twice_after_restart": ("anything", 30),
    "truncate_always": ("replication", 60),
    "commit_to_last_index": ("replication", 60),
    "acknowledgement_to_last_index": ("replication", 60),
    "goes_on_after_failed_sync": ("replication", 60),
    "journal_data_not_synced": ("replication", 60),
    "journal_names_not_synced": ("replication", 60),
    "journal_notes_before_sync": ("replication", 60),
    "journal_never_synced": ("replication", 30),
    "leader_counts_unsynced": ("replication", 30),
    "unknown_is_refused": ("anything", 90),
    "read_at_once": ("reads", 30),
    "ids_forgotten_at_checkpoint": ("anything", 30),
    "own_clock_in_apply": ("anything", 30),
    "checkpoint_without_pending": ("anything", 30),
    "checkpoint_without_a_row": ("anything", 30),
    "scrubber_never_looks": ("disks", 60),
    "older_folder_accepted": ("disks", 60),
    "day_limits_not_judged": ("anything", 30),
    "held_is_another_content": ("scoring", 30),
}
HERE = "tests.simulation.test_canaries"
BY_DIRECTED_TESTS = {
    "vote_before_sync": (HERE, "test_vote_leaves_after_its_sync"),
    "vote_not_durable": (HERE, "test_vote_is_in_the_journal"),
    "commit_of_old_terms": (HERE, "test_copies_of_an_older_term_commit_nothing"),
    "snapshot_drops_suffix": (HERE, "test_installed_snapshot_keeps_what_was_acknowledged_behind_it"),
    "ready_before_noop": (HERE, "test_new_leader_admits_nothing_before_its_noop"),
    "acknowledgement_without_term": (
        "tests.consensus.test_guards",
        "test_acknowledgement_of_an_older_term_does_not_count",
    ),
    "duplicate_votes": ("tests.consensus.test_guards", "test_repeated_vote_counts_once"),
    "discard_at_step_down": ("tests.consensus.test_guards", "test_lost_lead_does_not_mean_discarded"),
    "votes_after_disk_loss": ("tests.consensus.test_joining", "test_lost_disk_does_not_lose_what_was_acknowledged"),
    "counts_non_voters": ("tests.consensus.test_joining", "test_acknowledgement_of_a_non_voter_does_not_commit"),
    "promotes_unproven": ("tests.consensus.test_joining", "test_vote_comes_back_only_by_a_proof"),
    "keeps_old_proofs": ("tests.consensus.test_joining", "test_a_second_lost_disk_needs_a_proof_of_its_own"),
}


def test_every_canary_has_its_test() -> None:
    assert sorted([*BY_RANDOM_SCHEDULES, *BY_DIRECTED_TESTS]) == sorted(NAMES)
    assert len(NAMES) >= 16


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", BY_RANDOM_SCHEDULES)
def test_random_schedules_find_it(name: str) -> None:
    profile, seeds_max = BY_RANDOM_SCHEDULES[name]
    for seed in range(1, seeds_max + 1):
        plan = make_plan(seed, profile)
        violations = run_plan(plan, name).violations
        if violations:
            assert run_plan(plan).violations == []  # it is the bug that was found, and nothing else
            print(f"{name}: found by schedule {seed} of profile {profile}: {violations[0]}")
            return
    pytest.fail(f"{seeds_max} schedules of profile {profile} found nothing wrong with {name}")


@pytest.mark.parametrize("name", BY_DIRECTED_TESTS)
def test_directed_test_has_the_canary(name: str) -> None:
    """The named test exists and runs with this very bug, too."""
    module, function = BY_DIRECTED_TESTS[name]
    marks = getattr(importlib.import_module(module), function).pytestmark
    cases = [case for mark in marks if mark.name == "parametrize" for case in mark.args[1]]
    assert any(CORES.get(name, name) in (case if isinstance(case, tuple) else (case,)) for case in cases)


# Directed tests of what random schedules seldom meet


@pytest.mark.parametrize(("core_class", "votes"), [(SafeRaft, []), (CORES["vote_before_sync"], ["b"])])
def test_vote_leaves_after_its_sync(core_class: type[SafeRaft], votes: list[str]) -> None:
    node = Alone(core_class=core_class)
    node.clock.now += 2.0  # no leader is heard
    node.disk.cut_at_next_sync = True
    with pytest.raises(PowerCutError):
        node.tell("b", RequestVote(5, 0, 0))
    assert [peer for peer, _ in node.said(Vote)] == votes


def journal(disk: SimDisk) -> RaftLog:
    class Quiet:
        def spend(self, seconds: float) -> None: ...
        def syncing(self, environment: str, stage: str) -> None: ...
        def sync_failed(self, environment: str) -> None: ...

    host = Host(own_folder=lambda path: lambda: None, open_folder=lambda path: disk.open_folder("raft", Quiet()))
    return RaftLog(Path("raft"), cluster_id="sim", node_id="a", segment_bytes=1 << 16, host=host)


@pytest.mark.parametrize(("canary", "voted_for"), [("", "b"), ("vote_not_durable", "")])
def test_vote_is_in_the_journal(canary: str, voted_for: str) -> None:
    disk = SimDisk(random.Random(1), Counter())
    with switched_on(canary):
        log = journal(disk)
        log.set_term(5, "b")
        log.sync()
        again = journal(disk)
    assert (again.term, again.voted_for) == (5, voted_for)


@pytest.mark.parametrize(("core_class", "commit"), [(SafeRaft, 0), (CORES["commit_of_old_terms"], 1)])
def test_copies_of_an_older_term_commit_nothing(core_class: type[SafeRaft], commit: int) -> None:
    """Figure 8 of the Raft paper: an entry of an older term on a majority may still be overwritten."""
    node = Alone("bcde", core_class=core_class)
    node.tell("b", Append(1, 0, 0, 0, 0, 0, entries(1, b"old")))
    term = node.stand()
    for peer in "bc":
        node.tell(peer, Vote(term))
    for peer in "bc":
        node.tell(peer, AppendReply(term, 0, 0, True, 1))
    assert node.engine.status().commit_position == commit
    for peer in "bc":
        node.tell(peer, AppendReply(term, 0, 1, True, 2))
    assert node.engine.status().commit_position == 2  # with an entry of its own term, both


@pytest.mark.parametrize(("canary", "last_index"), [("", 9), ("snapshot_drops_suffix", 6)])
def test_installed_snapshot_keeps_what_was_acknowledged_behind_it(canary: str, last_index: int) -> None:
    disk = SimDisk(random.Random(1), Counter())
    with switched_on(canary):
        log = journal(disk)
        log.set_term(1, "a")
        for number in range(9):
            log.append(1, b"%d" % number)
        log.sync()
        log.install(6, 1)
    assert journal(disk).last_index == last_index


@pytest.mark.parametrize(("core_class", "appended"), [(SafeRaft, 0), (CORES["ready_before_noop"], 1)])
def test_new_leader_admits_nothing_before_its_noop(core_class: type[SafeRaft], appended: int) -> None:
    """Until then it does not know what was decided before it: a payment would be decided twice."""
    node = Alone(core_class=core_class)
    node.lead()
    before = node.log.last_index
    answers = node.propose(b"again")
    assert node.log.last_index - before == appended
    assert len(answers) == 1 - appended
