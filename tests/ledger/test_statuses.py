"""Every answer that the ledger knows is reached, in the order of precedence, and a refusal changes nothing.

Each row breaks its own rule and, where it can, rules of lower precedence as well.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from kibubu.raft.v1 import raft_pb2

from node.ledger import commands as rules
from node.ledger.columns import AccountFlag, AccountKind
from node.ledger.records import AMOUNT_MINOR_MAX, OUTCOME, Records, TransferFlag
from node.ledger.statuses import CommandStatus, FraudDecision, Status, TransferCode
from tests.ledger.building import (
    KES,
    START_NS,
    USD,
    command,
    commands_entry,
    create,
    tiers,
    tiers_document,
    transfer,
    transfers_entry,
)
from tests.ledger.model import ID_MAX, Tier
from tests.ledger.plain_history import PlainLedger

LINKED, PENDING = TransferFlag.LINKED, TransferFlag.PENDING
POST, VOID = TransferFlag.POST, TransferFlag.VOID
ONE, TWO, BOUNDED, DOLLARS, FROZEN, CLOSED, MUCH_OUT, MUCH_IN, MUCH_HELD_OUT, MUCH_HELD_IN = range(1, 11)
WAITING, POSTED, VOIDED, EXPIRED, REFUSED, PLAIN = range(101, 107)
LITTLE, MUCH, BUSY_DAY, BUSY_WEEK, BUSY_MONTH, FULL, ASLEEP = range(11, 18)  # by their tiers, 1 to 7
MISSING = 99
NEARLY = AMOUNT_MINOR_MAX - 5
LATE_NS = 6 * 10**18  # so late that the longest time-out passes the end of time


TIERS = {
    1: Tier(minimum=30, maximum=30, day=10),
    2: Tier(maximum=10, day=10),
    3: Tier(day=10, week=10),
    4: Tier(week=10, month=10),
    5: Tier(month=10),
    6: Tier(balance=10),
    7: Tier(minimum=30, maximum=30, dormant=timedelta(days=1)),
}


def world() -> PlainLedger:
    ledger = PlainLedger()
    bounded = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    accounts = [create() for _ in range(10)]
    accounts[BOUNDED - 1] = create(flags=bounded, overdraft_limit_minor=10)
    accounts[DOLLARS - 1] = create(USD)
    ledger.apply(commands_entry([tiers(tiers_document(TIERS)), *accounts, *[create(tier=number) for number in TIERS]]))
    before = [
        transfer(1, MUCH_OUT, MUCH_IN, NEARLY),
        transfer(2, MUCH_HELD_OUT, MUCH_HELD_IN, NEARLY, flags=PENDING),
        *[transfer(n, ONE, TWO, 50, flags=PENDING) for n in (WAITING, POSTED, VOIDED)],
        transfer(EXPIRED, ONE, TWO, 50, flags=PENDING, timeout_s=1),
        transfer(REFUSED, ONE, MISSING, 50, flags=PENDING),
        transfer(PLAIN, ONE, TWO, 50),
    ]
    ledger.apply(transfers_entry(before))
    ends = [transfer(3, flags=POST, pending_id=POSTED), transfer(4, flags=VOID, pending_id=VOIDED)]
    ledger.apply(transfers_entry(ends, START_NS + 2 * 10**9))
    flags = ((FROZEN, AccountFlag.FROZEN), (CLOSED, AccountFlag.CLOSED))
    ledger.apply(commands_entry([command(set_flags=raft_pb2.SetFlags(account_number=n, flags=f)) for n, f in flags]))
    return ledger


def post(amount: int = 0, pending_id: int = WAITING, **fields: int) -> Records:
    return transfer(500, amount=amount, pending_id=pending_id, **({"flags": POST, "ledger": 0, "code": 0} | fields))


def move(debit: int = ONE, credit: int = TWO, amount: int = 20, **fields: int) -> Records:
    return transfer(500, debit, credit, amount, **fields)


def pay(debit: int = ONE, credit: int = FULL) -> Records:
    """What counts against limits, and is too much for the payee."""
    return move(debit, credit, code=TransferCode.PRINCIPAL)


S = Status
# Status -> the batch; the last transfer's status is looked at, except in a chain's own statuses.
TRANSFERS: dict[Status, list[Records]] = {
    S.OK: [move()],
    S.LINKED_CHAIN_FAILED: [move(flags=LINKED), transfer(501, ONE, MISSING, 5)],
    S.LINKED_CHAIN_LEFT_OPEN: [move(amount=-1, flags=LINKED)],
    S.ID_MUST_NOT_BE_ZERO: [transfer(0, amount=-1, flags=LINKED)],
    S.ID_MUST_NOT_BE_ALL_ONES: [transfer(ID_MAX, amount=-1, flags=LINKED)],
    S.ID_USED_FOR_ANOTHER_TRANSFER: [transfer(PLAIN, ONE, TWO, -1, flags=LINKED)],
    S.ID_USED_OUTSIDE_THIS_CHAIN: [transfer(501, ONE, TWO, 1, flags=LINKED), transfer(PLAIN, ONE, TWO, 50)],
    S.RESERVED_MUST_BE_ZERO: [move(scoring=1, flags=64 | POST | VOID, amount=-1)],
    S.FLAGS_UNKNOWN: [move(flags=64 | POST | VOID, amount=-1)],
    S.FLAGS_EXCLUDE_EACH_OTHER: [move(flags=PENDING | POST, amount=-1)],
    S.AMOUNT_MUST_NOT_BE_NEGATIVE: [move(amount=-1, code=0)],
    S.AMOUNT_MUST_NOT_BE_ZERO: [move(amount=0, code=0, ledger=0)],
    S.CODE_MUST_NOT_BE_ZERO: [move(0, 0, code=0, ledger=0)],
    S.LEDGER_MUST_NOT_BE_ZERO: [move(0, 0, ledger=0)],
    S.DEBIT_ACCOUNT_MUST_NOT_BE_ZERO: [move(0, 0, timeout_s=1)],
    S.CREDIT_ACCOUNT_MUST_NOT_BE_ZERO: [move(MISSING, 0, timeout_s=1)],
    S.ACCOUNTS_MUST_DIFFER: [move(MISSING, MISSING, timeout_s=1)],
    S.TIMEOUT_ONLY_WITH_PENDING: [move(MISSING, timeout_s=1, pending_id=9)],
    S.PENDING_ID_ONLY_WITH_POST_OR_VOID: [move(MISSING, pending_id=500)],
    S.PENDING_ID_MUST_NOT_BE_ZERO: [post(pending_id=0)],
    S.PENDING_ID_MUST_DIFFER_FROM_ID: [post(pending_id=500)],
    S.PENDING_TRANSFER_NOT_FOUND: [post(pending_id=999, debit=MISSING)],
    S.PENDING_TRANSFER_WAS_REFUSED: [post(pending_id=REFUSED, debit=TWO)],
    S.TRANSFER_IS_NOT_PENDING: [post(pending_id=PLAIN, debit=TWO)],
    S.PENDING_TRANSFER_HAS_ANOTHER_DEBIT_ACCOUNT: [post(pending_id=POSTED, debit=TWO, credit=ONE, ledger=USD)],
    S.PENDING_TRANSFER_HAS_ANOTHER_CREDIT_ACCOUNT: [post(pending_id=POSTED, debit=ONE, credit=BOUNDED, ledger=USD)],
    S.PENDING_TRANSFER_HAS_ANOTHER_LEDGER: [post(51, pending_id=POSTED, ledger=USD)],
    S.PENDING_TRANSFER_ALREADY_POSTED: [post(51, pending_id=POSTED)],
    S.PENDING_TRANSFER_ALREADY_VOIDED: [post(51, pending_id=VOIDED)],
    S.PENDING_TRANSFER_EXPIRED: [post(51, pending_id=EXPIRED)],
    S.AMOUNT_EXCEEDS_PENDING_AMOUNT: [post(51)],
    S.VOID_AMOUNT_MUST_BE_ZERO_OR_PENDING_AMOUNT: [post(51, flags=VOID)],
    S.DEBIT_ACCOUNT_NOT_FOUND: [move(MISSING, MISSING + 1)],
    S.CREDIT_ACCOUNT_NOT_FOUND: [move(CLOSED, MISSING)],
    S.ACCOUNTS_HAVE_DIFFERENT_LEDGERS: [move(CLOSED, DOLLARS, ledger=36)],
    S.LEDGER_DIFFERS_FROM_ACCOUNTS: [move(CLOSED, FROZEN, ledger=USD)],
    S.DEBIT_ACCOUNT_CLOSED: [move(CLOSED, FROZEN)],
    S.CREDIT_ACCOUNT_CLOSED: [move(FROZEN, CLOSED)],
    S.DEBIT_ACCOUNT_FROZEN: [move(FROZEN, MUCH_IN)],
    S.CREDIT_ACCOUNT_FROZEN: [move(MUCH_OUT, FROZEN)],
    S.DEBIT_ACCOUNT_DORMANT: [pay(ASLEEP)],
    S.DEBIT_ACCOUNT_UNDER_PAYMENT_MINIMUM: [pay(LITTLE)],
    S.DEBIT_ACCOUNT_OVER_PAYMENT_LIMIT: [pay(MUCH)],
    S.DEBIT_ACCOUNT_OVER_DAY_LIMIT: [pay(BUSY_DAY)],
    S.DEBIT_ACCOUNT_OVER_WEEK_LIMIT: [pay(BUSY_WEEK)],
    S.DEBIT_ACCOUNT_OVER_MONTH_LIMIT: [pay(BUSY_MONTH)],
    S.CREDIT_ACCOUNT_OVER_BALANCE_LIMIT: [pay(BOUNDED)],
    S.DEBITS_PENDING_OVERFLOW: [move(MUCH_HELD_OUT, MUCH_HELD_IN, flags=PENDING)],
    S.CREDITS_PENDING_OVERFLOW: [move(MUCH_OUT, MUCH_HELD_IN, flags=PENDING)],
    S.DEBITS_POSTED_OVERFLOW: [move(MUCH_OUT, MUCH_IN)],
    S.CREDITS_POSTED_OVERFLOW: [move(MUCH_HELD_OUT, MUCH_IN)],
    S.DEBITS_OVERFLOW: [move(MUCH_OUT, MUCH_IN, flags=PENDING)],
    S.CREDITS_OVERFLOW: [move(BOUNDED, MUCH_IN, flags=PENDING)],
    S.EXPIRY_OVERFLOW: [move(BOUNDED, TWO, flags=PENDING, timeout_s=2**32 - 1)],
    S.DEBITS_EXCEED_CREDITS: [move(BOUNDED, TWO, amount=11)],
    S.REFUSED_BY_FRAUD_CHECK: [move(BOUNDED, TWO, amount=10, scoring=int(FraudDecision.REFUSE))],
}
ONLY_IN_REPLIES = (S.HELD_FOR_REVIEW,)
SCORED = (S.REFUSED_BY_FRAUD_CHECK,)


def test_every_status_has_a_row() -> None:
    assert [*TRANSFERS, *ONLY_IN_REPLIES] == list(Status), "a status was added: give it a row, in order"


@pytest.mark.parametrize("status", TRANSFERS)
def test_transfer_statuses(status: Status) -> None:
    ledger = world()
    late = status in (S.EXPIRY_OVERFLOW, S.DEBIT_ACCOUNT_DORMANT)
    ledger.apply(transfers_entry([], LATE_NS if late else START_NS))
    before, hash_before = ledger.state.columns.copy(), ledger.state.state_hash()
    batch = ledger.apply(transfers_entry(TRANSFERS[status], scored=status in SCORED))
    outcomes = batch.outcomes.view(OUTCOME).reshape(-1)
    looked_at = 0 if status is S.LINKED_CHAIN_FAILED else -1
    assert Status(int(outcomes["status"][looked_at])) is status
    if status is S.OK:
        return
    assert (outcomes["status"] != 0).all()
    assert np.array_equal(ledger.state.columns, before)
    assert ledger.state.state_hash() == hash_before
    assert not batch.ended
    assert all(not outcomes[name].any() for name in outcomes.dtype.names or () if name != "status")


def test_the_edge_of_each_bound_is_allowed() -> None:
    """One unit less than what is refused."""
    allowed = {
        S.DEBITS_EXCEED_CREDITS: move(BOUNDED, TWO, amount=10),
        S.AMOUNT_EXCEEDS_PENDING_AMOUNT: post(50),
        S.VOID_AMOUNT_MUST_BE_ZERO_OR_PENDING_AMOUNT: post(50, flags=VOID),
        S.DEBITS_POSTED_OVERFLOW: move(MUCH_OUT, TWO, amount=5),
        S.CREDITS_POSTED_OVERFLOW: move(ONE, MUCH_IN, amount=5),
        S.DEBITS_PENDING_OVERFLOW: move(MUCH_HELD_OUT, MUCH_HELD_IN, amount=5, flags=PENDING),
        S.DEBITS_OVERFLOW: move(MUCH_OUT, TWO, amount=5, flags=PENDING),
        S.CREDITS_OVERFLOW: move(ONE, MUCH_IN, amount=5, flags=PENDING),
    }
    for status, record in allowed.items():
        outcomes = world().apply(transfers_entry([record])).outcomes
        assert int(outcomes[0, 0]) == 0, status.name


def test_money_reserved_before_an_account_was_frozen_can_still_be_posted() -> None:
    ledger = world()
    flags = [raft_pb2.SetFlags(account_number=n, flags=AccountFlag.FROZEN) for n in (ONE, TWO)]
    ledger.apply(commands_entry([command(set_flags=action) for action in flags]))
    assert int(ledger.apply(transfers_entry([post(20)])).outcomes[0, 0]) == 0


# --- commands ---------------------------------------------------------------------------------------------------------


def account(**fields: object) -> raft_pb2.Command:
    action = {"ledger": KES, "kind": AccountKind.CUSTOMER} | fields
    return command(700, create_account=raft_pb2.CreateAccount(**action))  # type: ignore[arg-type]


def handles(*pairs: tuple[str, str]) -> list[raft_pb2.AccountHandle]:
    return [raft_pb2.AccountHandle(key=key, value=value) for key, value in pairs]


def flags_of(number: int, flags: int) -> raft_pb2.Command:
    return command(700, set_flags=raft_pb2.SetFlags(account_number=number, flags=flags))


def document(**fields: object) -> raft_pb2.Command:
    put = {"kind": "tariff", "key": "KES", "body": b"x", "author": "Amina"} | fields
    return command(700, put_document=raft_pb2.PutDocument(**put))  # type: ignore[arg-type]


C = CommandStatus
LONG_NAME = "é" * 33
COMMANDS: dict[CommandStatus, raft_pb2.Command] = {
    C.OK: account(name="n" * 64, handles=handles(*[("till", str(n)) for n in range(8)]), pin_verifier=b"v" * 16),
    C.EXISTS: command(600, set_name=raft_pb2.SetName(account_number=ONE, name="first")),
    C.REQUEST_ID_MUST_NOT_BE_ZERO: raft_pb2.Command(request_id=bytes(16)),
    C.REQUEST_ID_USED_FOR_ANOTHER_REQUEST: command(600, set_name=raft_pb2.SetName(account_number=MISSING)),
    C.COMMAND_UNKNOWN: command(700),
    C.LEDGER_UNKNOWN: account(ledger=1_000, kind=99),
    C.KIND_UNKNOWN: account(kind=99, flags=64),
    C.FLAGS_UNKNOWN: account(flags=64, overdraft_limit_minor=-1),
    C.OVERDRAFT_LIMIT_MUST_NOT_BE_NEGATIVE: account(
        overdraft_limit_minor=-1, handles=handles(*[("no", str(n)) for n in range(9)])
    ),
    C.HANDLE_KEY_UNKNOWN: account(handles=handles(("email", "no blanks"))),
    C.HANDLE_VALUE_MALFORMED: account(handles=handles(("till", "no blanks"))),
    C.HANDLE_USED_BY_ANOTHER_ACCOUNT: account(handles=handles(("till", "new"), ("till", "taken"))),
    C.HANDLES_TOO_MANY: account(name=LONG_NAME, handles=handles(*[("till", str(n)) for n in range(9)])),
    C.NAME_TOO_LONG: account(name=LONG_NAME, pin_verifier=b"short"),
    C.ACCOUNT_NOT_FOUND: flags_of(MISSING, 64),
    C.ACCOUNT_CLOSED: flags_of(CLOSED, 64),
    C.ACCOUNT_HAS_BALANCE: flags_of(TWO, AccountFlag.CLOSED),
    C.ACCOUNTS_TOO_MANY: account(handles=handles(("email", ""))),
    C.PIN_VERIFIER_MALFORMED: account(pin_verifier=b"v" * 15, handles=handles(("email", ""))),
    C.DOCUMENT_KIND_MALFORMED: document(kind="Tariff", key="no blanks"),
    C.DOCUMENT_KEY_MALFORMED: document(key="no blanks", body=bytes(65_537)),
    C.DOCUMENT_TOO_LARGE: document(body=bytes(65_537), author=""),
    C.DOCUMENT_AUTHOR_MALFORMED: document(author="é" * 33, replaces_version=1),
    C.DOCUMENT_VERSION_DIFFERS: document(kind="tiers", replaces_version=1),
    C.DOCUMENT_BREAKS_ITS_RULES: document(kind="tiers", key="tiers"),
    C.TIER_UNKNOWN: account(tier=8),
    C.TIER_HAS_ANOTHER_CURRENCY: account(ledger=USD, tier=1),
    C.SIM_SWAP_TIME_MALFORMED: command(
        700, set_sim_swap_time=raft_pb2.SetSimSwapTime(account_number=ONE, swapped_s=-1)
    ),
    C.LANGUAGE_MALFORMED: command(700, set_language=raft_pb2.SetLanguage(account_number=ONE, language="EN")),
}


def test_every_command_status_has_a_row() -> None:
    assert list(COMMANDS) == list(CommandStatus), "a status was added: give it a row, in order"


def facts_of(ledger: PlainLedger) -> tuple[object, ...]:
    history = ledger.history
    documents = [one for versions in history.documents.values() for one in versions]
    return dict(history.handles), dict(history.profiles), documents, ledger.state.columns.tobytes()


@pytest.mark.parametrize("status", CommandStatus)
def test_command_statuses(status: CommandStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = world()
    first = command(600, set_name=raft_pb2.SetName(account_number=ONE, name="first"))
    taken = raft_pb2.CreateAccount(ledger=KES, kind=1, handles=handles(("till", "taken")))
    ledger.apply(commands_entry([first, command(create_account=taken)]))
    if status is C.ACCOUNTS_TOO_MANY:
        monkeypatch.setattr(rules, "ACCOUNTS_MAX", ledger.state.accounts_total)
    before = facts_of(ledger)
    outcome = ledger.apply(commands_entry([COMMANDS[status]])).command_outcomes[0]
    assert outcome.status is status
    if status is not C.OK:
        assert facts_of(ledger) == before


CHANGES: list[tuple[Callable[[], raft_pb2.Command], CommandStatus]] = [
    (lambda: account(flags=AccountFlag.CLOSED), C.FLAGS_UNKNOWN),  # nobody opens a closed account
    (lambda: account(flags=1 << 31), C.FLAGS_UNKNOWN),
    (lambda: flags_of(ONE, 64), C.FLAGS_UNKNOWN),
    (lambda: flags_of(ONE, AccountFlag.CLOSED), C.ACCOUNT_HAS_BALANCE),  # a reservation waits
    (lambda: command(add_handle=raft_pb2.AddHandle(account_number=CLOSED)), C.ACCOUNT_CLOSED),
    (
        lambda: command(add_handle=raft_pb2.AddHandle(account_number=ONE, handle=handles(("till", ""))[0])),
        C.HANDLE_VALUE_MALFORMED,
    ),
    (lambda: command(set_name=raft_pb2.SetName(account_number=ONE, name=LONG_NAME)), C.NAME_TOO_LONG),
    (
        lambda: command(set_pin_verifier=raft_pb2.SetPinVerifier(account_number=ONE, pin_verifier=b"")),
        C.PIN_VERIFIER_MALFORMED,
    ),
    (
        lambda: command(set_overdraft_limit=raft_pb2.SetOverdraftLimit(account_number=ONE, overdraft_limit_minor=-1)),
        C.OVERDRAFT_LIMIT_MUST_NOT_BE_NEGATIVE,
    ),
    (lambda: raft_pb2.Command(request_id=b"short"), C.REQUEST_ID_MUST_NOT_BE_ZERO),
]


@pytest.mark.parametrize(("change", "status"), CHANGES)
def test_changes_keep_the_same_rules(change: Callable[[], raft_pb2.Command], status: CommandStatus) -> None:
    ledger = world()
    before = facts_of(ledger)
    assert ledger.apply(commands_entry([change()])).command_outcomes[0].status is status
    assert facts_of(ledger) == before
