"""Bringing a cluster up where that cannot work: the message says which process and why, and nothing else is touched."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cluster import lifecycle, processes
from cluster.config_files import prepare
from cluster.layout import EDGE, FRAUD, NODE_IDS, PROMETHEUS, REVIEW, SMS, Layout, free_port_base
from cluster.temporary import temporary_cluster
from tests.cluster.phone import wait_for


def quiet(_: str) -> None:
    pass


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(home=tmp_path / "home", port_base=free_port_base())


def test_a_port_that_somebody_else_has_is_named_and_left_alone(layout: Layout) -> None:
    prepare(layout)
    host, _, port = layout.peer_address("n2").rpartition(":")
    with socket.create_server((host, int(port))) as other:
        with pytest.raises(lifecycle.ClusterError) as caught:
            lifecycle.start_service(layout, "n2")
        assert other.fileno() > 0
    assert f"n2: another process listens on {layout.peer_address('n2')}" in str(caught.value)
    assert "KIBUBU_PORT_BASE" in str(caught.value)
    assert not layout.pid_file("n2").exists()


def test_a_process_that_ends_at_once_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'the disk is on fire' >&2\nexit 3\n", encoding="utf-8")
    python.chmod(0o755)
    layout = Layout(home=tmp_path / "home", port_base=free_port_base(), python=str(python))
    with pytest.raises(lifecycle.ClusterError) as caught:
        lifecycle.up(layout, quiet, with_prometheus=False)
    assert "its process has ended" in str(caught.value)
    assert "the disk is on fire" in str(caught.value)
    wait_for(lambda: lifecycle.running(layout) == [])  # up gives up at the first that ends
    assert lifecycle.down(layout, quiet) == 0


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    layout = Layout(home=tmp_path / "home", port_base=free_port_base(), python="/no/such/python")
    with pytest.raises(lifecycle.ClusterError, match="fraud: /no/such/python cannot be started"):
        lifecycle.up(layout, quiet, with_prometheus=False)


def test_every_process_has_its_own_addresses(layout: Layout) -> None:
    every = [address for name in layout.services for address in lifecycle.addresses(layout, name)]
    assert len(set(every)) == len(every) == len(layout.ports)
    assert set(layout.services) == {*NODE_IDS, FRAUD, EDGE, SMS, REVIEW, PROMETHEUS}


def test_down_stops_what_was_started_in_the_opposite_order_and_nothing_else(layout: Layout) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    foreign = subprocess.Popen(sleep)
    try:
        for name in ("n1", "n2", EDGE):
            processes.start(name, sleep, pid_file=layout.pid_file(name), log_file=layout.log_file(name), cwd=Path("/"))
        stale = {"name": "n3", "pid": foreign.pid, "create_time_s": 1.0, "command": sleep}
        layout.pid_file("n3").write_text(json.dumps(stale), encoding="utf-8")
        started = [processes.find_process(layout.pid_file(name)) for name in ("n1", "n2", EDGE)]
        said: list[str] = []
        assert lifecycle.running(layout) == ["n1", "n2", EDGE]
        assert lifecycle.down(layout, said.append) == 3
        assert said == [f"stopped {EDGE}", "stopped n2", "stopped n1"]
        assert not any(process and psutil.pid_exists(process.pid) for process in started)
        assert foreign.poll() is None
        assert lifecycle.down(layout, said.append) == 0
    finally:
        foreign.kill()
        foreign.wait()


@pytest.mark.parametrize("keep", [False, True])
def test_a_temporary_cluster_that_fails_leaves_what_was_asked_for(tmp_path: Path, *, keep: bool) -> None:
    beside = Layout(home=tmp_path, port_base=7_100, python="/no/such/python")
    with pytest.raises(lifecycle.ClusterError), temporary_cluster(beside, "test", quiet, keep=keep):
        pytest.fail("it cannot have come up")
    assert len(list((tmp_path / "temporary").iterdir())) == int(keep)
