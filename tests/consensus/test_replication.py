"""The leader's search for what a follower has, while the log is compacted beneath it."""

from __future__ import annotations

from dataclasses import replace

from node.consensus.messages import Append, AppendReply, TermHint
from tests.consensus.test_guards import Alone

ENTRIES = 20


def old_leader_in_a_new_term() -> tuple[Alone, int]:
    """All nodes have stored everything, nothing is compacted yet, c is away. Returns the new term, too."""
    node = Alone()
    node.engine.core.config = replace(node.engine.core.config, log_trailing_entries=0, compact_entries_min=1)
    term = node.lead()
    node.tell("b", AppendReply(term, 0, 0, True, 1))
    for number in range(ENTRIES):
        node.propose(b"%d" % number)
    for peer in "bc":
        node.tell(peer, AppendReply(term, 0, 0, True, node.log.last_index))
    node.engine.disconnected("c")
    node.tell("b", TermHint(term + 1))
    return node, node.lead()


def asked(node: Alone, peer: str) -> list[int]:
    return [m.prev_index for to, m in node.said(Append) if to == peer and isinstance(m, Append)]


def test_search_begins_at_the_end_of_the_log() -> None:
    node, _ = old_leader_in_a_new_term()
    before = len(asked(node, "c"))
    node.engine.connected("c")
    node.engine.step()
    assert asked(node, "c")[before:] == [node.log.last_index - 1]


def test_compaction_while_a_follower_is_asked() -> None:
    node, term = old_leader_in_a_new_term()
    node.engine.connected("c")
    node.engine.step()
    node.tell("c", AppendReply(term, 0, asked(node, "c")[-1], False, 3))  # it may have other entries behind 3
    assert asked(node, "c")[-1] == 3
    node.state.checkpoint()
    node.clock.now += node.engine.core.config.compact_every_s + 0.1
    node.tell("b", AppendReply(term, 0, 0, True, node.log.last_index))
    assert node.log.base_index > 3
    node.tell("c", AppendReply(term, 0, 3, True, 3))
    assert asked(node, "c")[-1] >= node.log.base_index
