"""What a node can look up, wherever it is just now: in memory, on its way to disk, on disk."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kibubu.raft.v1 import raft_pb2

from node.ledger.columns import Column
from node.ledger.entry import encode_entry
from node.ledger.records import PAYMENT, OutcomeFlag, TransferFlag
from node.ledger.statuses import CommandStatus, Status
from node.storage.ledger_store import LedgerStore, UnknownReferenceError
from tests.ledger.building import KES, START_NS, command, commands_entry, transfer, transfers_entry
from tests.storage.stores import HeldHost, open_store, write

LINKED, PENDING = TransferFlag.LINKED, TransferFlag.PENDING
POST, VOID = TransferFlag.POST, TransferFlag.VOID
PLACES = ["active", "flushing", "disk", "reopened"]
SECOND = 10**9


class Shelf:
    """A store and where its content is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held = HeldHost()
        self.store = open_store(folder, held=self.held)
        accounts = [
            raft_pb2.CreateAccount(
                ledger=KES, kind=1, name=name, handles=[raft_pb2.AccountHandle(key="msisdn", value=name)]
            )
            for name in ("a", "b", "c")
        ]
        write(self.store, commands_entry([command(create_account=account) for account in accounts]))

    def move_to(self, place: str) -> None:
        if place == "active":
            return
        self.store.checkpoint(wait=place != "flushing")
        if place == "flushing":
            assert self.store.durable_position < self.store.applied_position
        if place == "reopened":
            self.store.close()
            self.store = open_store(self.folder, held=self.held)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.store.close()


def statuses(store: LedgerStore, *entry: object, timestamp_ns: int = START_NS) -> list[int]:
    replies = write(store, transfers_entry(list(entry), timestamp_ns)).replies  # type: ignore[arg-type]
    return [int(status) for status in replies["status"]]


@pytest.mark.parametrize("place", PLACES)
def test_transfers_are_found_by_id(shelf: Shelf, place: str) -> None:
    statuses(shelf.store, transfer(1 << 100, 1, 2, 70), transfer(5, 1, 9, 1))
    shelf.move_to(place)
    found = shelf.store.lookup_transfer(1 << 100)
    assert found is not None
    assert (found.position, found.offset, int(found.outcome["debit_balance_minor"])) == (2, 0, -70)
    refused = shelf.store.lookup_transfer(5)
    assert refused is not None
    assert int(refused.outcome["status"]) == Status.CREDIT_ACCOUNT_NOT_FOUND
    assert shelf.store.lookup_transfer(6) is None
    assert shelf.store.lookup_transfer(0) is None


@pytest.mark.parametrize("place", PLACES)
def test_accounts_are_found_by_handle_with_their_profile(shelf: Shelf, place: str) -> None:
    handle = raft_pb2.AccountHandle(key="till", value="77")
    write(shelf.store, commands_entry([command(add_handle=raft_pb2.AddHandle(account_number=2, handle=handle))]))
    shelf.move_to(place)
    assert shelf.store.account_by_handle(KES, "msisdn", "b") == 2
    assert shelf.store.account_by_handle(KES, "till", "77") == 2
    assert shelf.store.account_by_handle(KES, "till", "78") == 0
    assert shelf.store.account_by_handle(840, "till", "77") == 0
    profile = shelf.store.profile(2)
    assert profile is not None
    assert (profile.name, profile.handles) == ("b", (("msisdn", "b"), ("till", "77")))
    assert shelf.store.profile(4) is None


@pytest.mark.parametrize("place", PLACES)
def test_a_command_is_applied_once(shelf: Shelf, place: str) -> None:
    rename = command(900, set_name=raft_pb2.SetName(account_number=3, name="new"))
    first = write(shelf.store, commands_entry([rename])).commands[0]
    shelf.move_to(place)
    again = write(shelf.store, commands_entry([rename])).commands[0]
    assert (first.status, again.status) == (CommandStatus.OK, CommandStatus.EXISTS)
    assert (again.position, again.timestamp_ns, again.account_number) == (first.position, first.timestamp_ns, 3)
    other = command(900, set_name=raft_pb2.SetName(account_number=3, name="other"))
    refused = write(shelf.store, commands_entry([other])).commands[0]
    assert refused.status is CommandStatus.REQUEST_ID_USED_FOR_ANOTHER_REQUEST
    assert shelf.store.profile(3).name == "new"  # type: ignore[union-attr]


@pytest.mark.parametrize("place", PLACES)
def test_a_retry_gets_the_first_answer(shelf: Shelf, place: str) -> None:
    chain = [transfer(1, 1, 2, 5, flags=LINKED), transfer(2, 2, 3, 4, flags=LINKED), transfer(3, 3, 1, 3)]
    refused = [transfer(4, 1, 2, 5, flags=LINKED), transfer(5, 2, 9, 4)]
    first = write(shelf.store, transfers_entry([*chain, *refused])).replies
    statuses(shelf.store, transfer(6, 1, 2, 1_000))
    shelf.move_to(place)
    again = write(shelf.store, transfers_entry([transfer(7, 1, 2, 1), *chain, *refused], START_NS + 9)).replies[1:]
    assert (again["flags"] == OutcomeFlag.DUPLICATE).all()
    for name in first.dtype.names or ():
        if name != "flags":
            assert again[name].tolist() == first[name].tolist(), name
    assert int(shelf.store.columns[1, 4]) == 5 + 1_000 + 1  # debits posted


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("posted", Status.PENDING_TRANSFER_ALREADY_POSTED),
        ("voided", Status.PENDING_TRANSFER_ALREADY_VOIDED),
        ("expired", Status.PENDING_TRANSFER_EXPIRED),
        ("refused", Status.PENDING_TRANSFER_WAS_REFUSED),
        ("plain", Status.TRANSFER_IS_NOT_PENDING),
    ],
)
def test_what_ended_long_ago_cannot_end_again(shelf: Shelf, place: str, end: str, status: Status) -> None:
    flags, credit = PENDING if end != "plain" else 0, 2 if end != "refused" else 9
    statuses(shelf.store, transfer(1, 1, credit, 50, flags=flags, timeout_s=1 if end == "expired" else 0))
    if end in ("posted", "voided"):
        flags = POST if end == "posted" else VOID
        assert statuses(shelf.store, transfer(2, flags=flags, pending_id=1)) == [0]
    statuses(shelf.store, transfer(3, 1, 2, 1), timestamp_ns=START_NS + 2 * SECOND)
    shelf.move_to(place)
    balances = shelf.store.columns[:, 4:8].copy()
    ends = [transfer(4, flags=POST, pending_id=1), transfer(5, flags=VOID, pending_id=1)]
    assert statuses(shelf.store, *ends) == [status, status]
    assert np.array_equal(shelf.store.columns[:, 4:8], balances)


@pytest.mark.parametrize("place", PLACES)
def test_what_waits_can_end_wherever_it_is(shelf: Shelf, place: str) -> None:
    waiting = [transfer(n, 1, 2, 10 * n, flags=PENDING, timeout_s=60) for n in (1, 2, 3)]
    assert statuses(shelf.store, *waiting) == [0, 0, 0]
    shelf.move_to(place)
    assert shelf.store.next_expiry_ns
    ends = [transfer(4, flags=POST, pending_id=1, amount=4), transfer(5, flags=VOID, pending_id=2)]
    assert statuses(shelf.store, *ends) == [0, 0]
    assert statuses(shelf.store, transfer(6, 1, 3, 1), timestamp_ns=START_NS + 61 * SECOND) == [0]
    assert shelf.store.columns[1, 4:8].tolist() == [5, 0, 0, 0]
    assert shelf.store.columns[2, 4:8].tolist() == [0, 4, 0, 0]
    shelf.store.checkpoint(wait=True)
    assert shelf.store.verify().ok


@pytest.mark.parametrize("place", PLACES)
def test_the_end_of_a_whole_reservation_is_read_with_what_it_moved(shelf: Shelf, place: str) -> None:
    waiting = [transfer(n, 1, 2, 10 * n, flags=PENDING) for n in (1, 2, 3)]
    assert statuses(shelf.store, *waiting) == [0, 0, 0]
    ends = [
        transfer(4, flags=POST, pending_id=1), transfer(5, flags=VOID, pending_id=2),
        transfer(6, flags=POST, pending_id=3, amount=7),
    ]  # fmt: skip
    assert statuses(shelf.store, *ends) == [0, 0, 0]
    shelf.move_to(place)
    lines = shelf.store.statement(2, 0, 3)
    assert [int(line.record["amount_minor"]) for line in lines] == [7, 0, 10]
    assert [int(line.record["debit_account"]) for line in lines] == [1, 1, 1]


def test_a_statement_pages_across_disk_and_both_memtables(shelf: Shelf) -> None:
    expected = []
    for n, place in enumerate(("disk", "flushing", "active"), start=1):
        write(shelf.store, b"")  # a no-op holds a position and no transfer
        batch = [transfer(100 * n + k, 1 + k % 2, 3, 1 + k) for k in range(6)]
        statuses(shelf.store, *batch)
        position = shelf.store.applied_position
        expected += [(position, k) for k in range(0, 6, 2)]
        shelf.move_to(place)
    assert len(shelf.store._memtables()) == 2
    found, before = [], 0
    while page := shelf.store.statement(1, before, 2):
        assert len(page) <= 2
        found += [(line.position, line.offset) for line in page]
        before = page[-1].position << 16 | page[-1].offset
    assert found == expected[::-1]
    assert len(shelf.store.statement(3, 0, 100)) == 18


def test_a_statement_shows_ended_reservations_with_their_accounts(shelf: Shelf) -> None:
    """Also when the post or void named one account and left the other empty."""
    statuses(shelf.store, *[transfer(n, 1, 2, 10, flags=PENDING) for n in (1, 2, 3)])
    ends = [
        transfer(4, flags=POST, pending_id=1, ledger=0),
        transfer(5, debit=1, flags=VOID, pending_id=2),
        transfer(6, credit=2, flags=POST, pending_id=3),
    ]
    assert statuses(shelf.store, *ends) == [0, 0, 0]
    for account in (1, 2):
        lines = shelf.store.statement(account, 0, 10)
        assert [int(line.record["id_lo"]) for line in lines] == [6, 5, 4, 3, 2, 1]
        assert {(int(line.record["debit_account"]), int(line.record["credit_account"])) for line in lines} == {(1, 2)}
        assert {int(line.record["ledger"]) for line in lines} == {KES}


def test_a_page_must_begin_at_a_transfer_of_the_account(shelf: Shelf) -> None:
    statuses(shelf.store, transfer(1, 1, 2, 5), transfer(2, 1, 9, 5), transfer(1, 1, 2, 5))
    write(shelf.store, b"")
    assert shelf.store.statement(1, 2 << 16, 5) == []
    of_another, refused, duplicate, beyond = 2 << 16, 2 << 16 | 1, 2 << 16 | 2, 2 << 16 | 3
    for account, reference in ((3, of_another), (1, refused), (1, duplicate), (1, beyond)):
        with pytest.raises(UnknownReferenceError, match=f"of account {account}"):
            shelf.store.statement(account, reference, 5)
    for reference in (1, 1 << 16, 3 << 16, 4 << 16, 10**20 - 1, -1):
        with pytest.raises(UnknownReferenceError):
            shelf.store.statement(1, reference, 5)


def payment_entry(number: int, amount_minor: int) -> bytes:
    record = np.zeros(1, dtype=PAYMENT)
    record["id_lo"], record["payer_account"], record["payee_account"] = number, 1, 2
    record["amount_minor"], record["legs"], record["kind"] = amount_minor, 1, 1
    leg = transfer(number, 1, 2, amount_minor)
    return encode_entry(START_NS, payments=record.tobytes(), transfers=leg.tobytes())


@pytest.mark.parametrize("second_place", PLACES)
@pytest.mark.parametrize("first_place", PLACES)
def test_the_first_payment_of_an_id_stands(shelf: Shelf, first_place: str, second_place: str) -> None:
    """A leader that does not know yet of a payment may propose it again: what is looked up stays the first."""
    write(shelf.store, payment_entry(7, 30))
    position = shelf.store.applied_position
    shelf.move_to(first_place)
    write(shelf.store, payment_entry(7, 40))
    shelf.move_to(second_place)
    found = shelf.store.lookup_payment(7)
    assert found is not None
    assert (found.position, int(found.record["amount_minor"]), found.legs["status"].tolist()) == (position, 30, [0])
    assert shelf.store.lookup_payment(8) is None


def test_one_transfer_is_read_without_the_rest_of_its_batch(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry of a whole batch that read the whole for each of its transfers would stop the node for half a minute."""
    batch = [transfer(n, 1, 2, 1) for n in range(1, 50)]
    statuses(shelf.store, *batch)
    shelf.move_to("disk")
    monkeypatch.setattr(shelf.store._db, "batch", lambda _: pytest.fail("a whole batch was read"))
    replies = write(shelf.store, transfers_entry(batch)).replies
    assert (replies["flags"] == OutcomeFlag.DUPLICATE).all()
    lines = shelf.store.statement(1, 0, 100)
    assert [int(line.record["id_lo"]) for line in lines] == list(range(49, 0, -1))
    assert [int(line.outcome["debit_balance_minor"]) for line in lines] == list(range(-49, 0))


def test_readers_on_another_thread_meet_only_whole_entries(tmp_path: Path) -> None:
    """Balances, links and ids change while an entry is applied; its batch can be read a moment later."""
    store = open_store(tmp_path, checkpoint_transfers_max=40, checkpoint_interval_s=1e9)
    accounts = [command(create_account=raft_pb2.CreateAccount(ledger=KES, kind=1)) for _ in range(2)]
    write(store, commands_entry(accounts))
    problems: list[BaseException] = []
    applied_ids, done = [1], threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                lines = store.statement(1, 0, 3)
                assert [int(line.record["id_lo"]) for line in lines] == sorted(
                    (int(line.record["id_lo"]) for line in lines), reverse=True
                )
                newest = applied_ids[-1]
                store.lookup_transfer(newest + 1)  # may be in the middle of being applied
                assert newest == 1 or store.lookup_transfer(newest) is not None
                assert len(store.export(store.applied_position, store.applied_position, 1)) == 1
        except BaseException as error:
            problems.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader = threading.Thread(target=read)
    try:
        reader.start()
        for n in range(250):
            first = 2 + n * 20
            batch = [transfer(first + k, 1, 2, 1, narrative=bytes(32)) for k in range(20)]
            write(store, transfers_entry(batch))
            store.tick(0)
            applied_ids.append(first + 19)
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert problems == []
    store.close()


def test_readers_never_see_money_move_that_does_not_move(tmp_path: Path) -> None:
    """A chain is applied member by member and undone when the last one fails; no other thread may see it halfway."""
    store = open_store(tmp_path)
    accounts = [command(create_account=raft_pb2.CreateAccount(ledger=KES, kind=1)) for _ in range(2)]
    write(store, commands_entry(accounts))
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(int(store.columns[1, Column.DEBITS_POSTED]))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader = threading.Thread(target=read)
    try:
        reader.start()
        chain = np.repeat(transfer(0, 1, 2, 1, flags=LINKED), 8_000)
        chain["credit_account"][-1], chain["flags"][-1] = 9, 0
        for n in range(50):
            chain["id_lo"] = np.arange(1, 8_001) + n * 8_000
            replies = write(store, transfers_entry([chain])).replies
            assert int(replies["status"][-1]) == Status.CREDIT_ACCOUNT_NOT_FOUND
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert seen == {0}
    store.close()
