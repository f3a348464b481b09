"""What `verify` says of nodes whose hashes differ."""

from __future__ import annotations

from cluster.inspection import Verdict, hash_problems


def test_equal_hashes_are_no_problem() -> None:
    assert hash_problems(7, {}) == []
    assert hash_problems(7, {"n1": b"a" * 32}) == []
    assert hash_problems(7, {"n1": b"a" * 32, "n2": b"a" * 32}) == []


def test_different_ones_name_the_position_and_the_nodes() -> None:
    (problem,) = hash_problems(7, {"n1": b"\1" * 32, "n3": b"\2" * 32, "n2": b"\1" * 32})
    assert problem == ("the hash chains differ at position 7: n1 010101010101, n2 010101010101, n3 020202020202")
    assert Verdict().ok
    assert not Verdict(problems=[problem]).ok
