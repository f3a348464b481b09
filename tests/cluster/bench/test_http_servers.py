"""The comparison of HTTP servers runs, and measures what it says: whole answers of the real edge."""

from __future__ import annotations

import importlib.util

from cluster.bench.http_servers import commands, compare


def test_the_edges_own_server_is_measured_and_the_absent_are_said() -> None:
    said: list[str] = []
    compare(0.2, 1, 2, said.append)
    assert [line.split()[0] for line in said] == list(commands(1))
    for line in said:
        installed = importlib.util.find_spec(line.split()[0]) is not None
        assert ("us CPU a step" in line) == installed
        assert ("is not installed" in line) != installed
    assert "us CPU a step" in said[0]
