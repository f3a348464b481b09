"""A node that lost its disk comes back by a snapshot, as a voter, while payments go on; one whose data folder went back
in time, or is another cluster's, is refused and says why."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from kibubu.admin.v1 import admin_pb2
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster import config_files, demo, inspection, lifecycle, processes
from cluster.accounts import LEDGER_KES, find_account
from cluster.calls import Caller, operator_caller
from cluster.health import find_leader, node_status
from cluster.layout import NODE_IDS, Layout, free_port_base
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_OPERATOR

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
SHORT_LOG = """
[storage]
scrub_mib_per_s = 64

[raft]
log_trailing_entries = 5
compact_entries_min = 1
log_kept_bytes_max = 1
"""


@pytest.fixture
def cluster(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """A cluster of its own whose log is so short that who was away for a moment needs a snapshot."""
    plain = config_files.node_config

    def node_config(layout: Layout, node_id: str) -> str:
        text = plain(layout, node_id).replace("checkpoint_interval_s = 5.0", "checkpoint_interval_s = 0.2")
        head, peers = text.split("\n[[peers]]", 1)
        return f"{head}{SHORT_LOG}\n[[peers]]{peers}"

    monkeypatch.setattr(config_files, "node_config", node_config)
    layout = Layout(home=tmp_path, port_base=free_port_base())  # type: ignore[arg-type]
    try:
        lifecycle.up(layout, lambda _: None, with_prometheus=False)
        yield layout
    finally:
        lifecycle.down(layout, lambda _: None)


@pytest.fixture
def operator(cluster: Layout) -> Iterator[Caller]:
    with operator_caller(cluster, deadline_s=20) as caller:
        yield caller


def pay(operator: Caller, batches: int) -> None:
    accounts = [find_account(operator, account.value).account_number for account in demo.CUSTOMERS]
    form, ids = template(50, amount_minor=1, ledger=LEDGER_KES, code=CODE_OPERATOR), IdSource()
    for _ in range(batches):
        batch = fresh_batch(form, ids, [accounts[0]] * 50, [accounts[1]] * 50)
        request = ledger_pb2.CreateTransfersPackedRequest(transfers=batch.tobytes())
        operator.leader(lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfersPacked, request)


def status_of(layout: Layout, operator: Caller, node_id: str) -> admin_pb2.GetStatusResponse | None:
    return node_status(operator, layout.api_address(node_id))


def wait_for(what: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end_s, "it did not come about in time"
        time.sleep(0.05)


def is_caught_up(layout: Layout, operator: Caller, node_id: str) -> bool:
    """With what was committed just before: a follower hears of a commit some milliseconds after the leader."""
    leader = find_leader(operator, layout)
    its = status_of(layout, operator, leader) if leader else None
    end_s = time.monotonic() + 0.5
    while its and time.monotonic() < end_s:
        mine = status_of(layout, operator, node_id)
        if mine and mine.voter and mine.applied_position >= its.commit_position:
            return True
        time.sleep(0.02)
    return False


def test_node_that_lost_its_disk_comes_back_by_a_snapshot(cluster: Layout, operator: Caller) -> None:
    away = next(node for node in NODE_IDS if node != find_leader(operator, cluster))
    pay(operator, 30)
    processes.kill(cluster.pid_file(away))
    shutil.rmtree(cluster.data_dir(away))
    pay(operator, 30)
    leader = find_leader(operator, cluster)
    wait_for(lambda: (found := status_of(cluster, operator, leader)) and found.log_first_index > 30)
    lifecycle.start_service(cluster, away)
    wait_for(lambda: (pay(operator, 1), is_caught_up(cluster, operator, away))[1])
    log = cluster.log_file(away).read_text(encoding="utf-8")
    assert "this node joins" in log
    assert "installed a snapshot of position" in log
    verdict = inspection.verify(cluster, operator)
    assert verdict.ok, verdict.problems
    other = next(node for node in NODE_IDS if node not in (away, leader))
    processes.kill(cluster.pid_file(other))  # now it takes the node that came back to commit
    pay(operator, 3)


def test_flipped_bit_is_found_while_the_node_runs_and_the_node_rebuilds_itself(
    cluster: Layout, operator: Caller
) -> None:
    pay(operator, 30)
    leader = find_leader(operator, cluster)
    damaged = next(node for node in NODE_IDS if node != leader)
    paid = status_of(cluster, operator, leader)
    assert paid is not None
    wait_for(
        lambda: (found := status_of(cluster, operator, damaged)) and found.durable_position >= paid.commit_position
    )
    wait_for(lambda: (found := status_of(cluster, operator, damaged)) and found.scrub_passes > 1)
    path = cluster.data_dir(damaged) / "ledger" / "data.mdb"
    with path.open("r+b") as file:
        data = file.read()
        at = data.find(b"KBE1")
        while at >= 0:  # in every batch, so that one of them is on a page in use
            file.seek(at + 70)
            file.write(bytes([data[at + 70] ^ 4]))
            at = data.find(b"KBE1", at + 1)
    log = cluster.log_file(damaged)
    wait_for(lambda: "this node starts anew" in log.read_text(encoding="utf-8"))
    wait_for(lambda: (pay(operator, 1), is_caught_up(cluster, operator, damaged))[1])
    assert "does not fit its checksum" in log.read_text(encoding="utf-8")
    assert (cluster.data_dir(damaged) / "set-aside" / "ledger").exists()
    verdict = inspection.verify(cluster, operator)
    assert verdict.ok, verdict.problems


def test_data_folder_that_went_back_in_time_is_refused(cluster: Layout, operator: Caller) -> None:
    away = next(node for node in NODE_IDS if node != find_leader(operator, cluster))
    processes.stop(cluster.pid_file(away))
    copy = cluster.home / "copy"
    shutil.copytree(cluster.data_dir(away), copy)
    lifecycle.start_service(cluster, away)
    wait_for(lambda: is_caught_up(cluster, operator, away))
    pay(operator, 3)
    processes.stop(cluster.pid_file(away))
    shutil.rmtree(cluster.data_dir(away))
    shutil.copytree(copy, cluster.data_dir(away))
    lifecycle.start_service(cluster, away)
    wait_for(lambda: processes.find_process(cluster.pid_file(away)) is None)
    assert "data folder older than one that it had before" in processes.log_tail(cluster.log_file(away))
    shutil.rmtree(cluster.data_dir(away))
    lifecycle.start_service(cluster, away)
    wait_for(lambda: is_caught_up(cluster, operator, away))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('cluster_id = "kibubu-dev"', 'cluster_id = "other"'), "belongs to"),
        (('node_id = "n3"', 'node_id = "n4"'), "belongs to"),
    ],
)
def test_data_folder_of_another_cluster_or_node_is_refused(
    cluster: Layout, operator: Caller, change: tuple[str, str], reason: str
) -> None:
    processes.stop(cluster.pid_file("n3"))
    path = cluster.config_file("n3")
    text = path.read_text(encoding="utf-8")
    assert change[0] in text
    path.write_text(text.replace(change[0], change[1], 1), encoding="utf-8")
    lifecycle.start_service(cluster, "n3")
    wait_for(lambda: processes.find_process(cluster.pid_file("n3")) is None)
    assert reason in processes.log_tail(cluster.log_file("n3"))
    assert "Traceback" not in processes.log_tail(cluster.log_file("n3"))
