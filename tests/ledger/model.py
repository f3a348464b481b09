"""The ledger once more, in plain Python: dicts and ints, written from the rules and not from the kernel.

It knows nothing of words, hash tables, checkpoints or disks. What it says is compared with the compiled ledger after
every batch; where the two differ, one of them is wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from node.ledger.columns import AccountFlag
from node.ledger.records import TransferFlag
from node.ledger.statuses import FraudDecision, Status, TransferCode

AMOUNT_MAX = 2**63 - 1
ID_MAX = 2**128 - 1
NO_FLAGS = AccountFlag(0)
KNOWN_FLAGS = TransferFlag.LINKED | TransferFlag.PENDING | TransferFlag.POST | TransferFlag.VOID
HOLDS = (FraudDecision.HOLD, FraudDecision.HOLD_UNSCORED)
CLIENT_WROTE_SCORING = 15  # what a leader puts where a client's own word was not zero
ENDS = TransferFlag.POST | TransferFlag.VOID
COUNTED = (TransferCode.PRINCIPAL, TransferCode.AIRTIME, TransferCode.VOUCHER, TransferCode.CONVERTED)
NOT_OF_A_PERSON = (TransferCode.FEE, TransferCode.EXCISE_DUTY, TransferCode.COMMISSION)


@dataclass(frozen=True)
class Transfer:
    id: int
    debit: int
    credit: int
    amount: int
    pending_id: int
    timeout_s: int
    ledger: int
    code: int
    flags: TransferFlag
    scoring: int  # as the client sent it
    decision: int
    content: bytes  # what the client sent

    @classmethod
    def of(cls, record: Any, *, scored: bool = False) -> Transfer:
        """`scored`: the record's scoring word is the leader's, as is what makes a held transfer pending."""
        asked, decision = record.copy(), int(record["scoring"]) & 0xF if scored else 0
        if scored:
            asked["scoring"] = 2**32 - 1 if decision == CLIENT_WROTE_SCORING else 0
        if decision in HOLDS:
            asked["flags"] = int(record["flags"]) & ~int(TransferFlag.PENDING)
            asked["timeout_s"] = 0
        return cls(
            id=int(record["id_hi"]) << 64 | int(record["id_lo"]),
            debit=int(record["debit_account"]),
            credit=int(record["credit_account"]),
            amount=int(record["amount_minor"]),
            pending_id=int(record["pending_id_hi"]) << 64 | int(record["pending_id_lo"]),
            timeout_s=int(record["timeout_s"]),
            ledger=int(record["ledger"]),
            code=int(record["code"]),
            flags=TransferFlag(int(record["flags"])),
            scoring=int(asked["scoring"]),
            decision=decision,
            content=asked.tobytes(),
        )


@dataclass(frozen=True)
class Tier:
    offset: timedelta = timedelta()
    minimum: int = 0
    maximum: int = AMOUNT_MAX
    day: int = AMOUNT_MAX
    week: int = AMOUNT_MAX
    month: int = AMOUNT_MAX
    balance: int = AMOUNT_MAX
    dormant: timedelta | None = None


@dataclass
class Counted:
    """What was moved or reserved on a local day and counts against limits."""

    day: date
    amount: int


@dataclass
class Account:
    ledger: int
    flags: AccountFlag = NO_FLAGS
    overdraft_limit: int = 0
    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0
    last: int = 0
    tier: int = 0
    counted: list[Counted] = field(default_factory=list)
    moved_ns: int = 0  # or made

    def used(self, today: date, period: str) -> int:
        same = {"day": lambda d: d, "week": lambda d: d.isocalendar()[:2], "month": lambda d: (d.year, d.month)}[period]
        return sum(one.amount for one in self.counted if same(one.day) == same(today))

    @property
    def balance(self) -> int:
        return self.credits_posted - self.debits_posted

    @property
    def available(self) -> int:
        return self.balance - self.debits_pending


@dataclass
class Pending:
    reference: int
    debit: int
    credit: int
    amount: int
    ledger: int
    expires_ns: int  # 0 = never
    ended: Status = Status.OK  # what a later post or void is told; OK = it waits
    counted: Counted | None = None


@dataclass(frozen=True)
class Answer:
    """What the ledger says of one transfer, and where it first said so."""

    status: Status
    position: int
    offset: int
    timestamp_ns: int
    balances: tuple[int, int, int, int] = (0, 0, 0, 0)  # debit balance and available, credit balance and available
    previous: tuple[int, int] = (0, 0)  # references of the debit and of the credit account's transfer before
    original: int = 0
    duplicate: bool = False
    held: bool = False


@dataclass(frozen=True)
class Decided:
    content: bytes
    answer: Answer
    pending: bool


class Model:
    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.pending: dict[int, Pending] = {}
        self.decided: dict[int, Decided] = {}
        self.tiers: dict[int, Tier] = {}
        self.position = 0
        self.timestamp_ns = 0

    # --- entries --------------------------------------------------------------------------------------------------

    def next_entry(self, timestamp_ns: int) -> list[int]:
        """Time never goes back; returns the references of the pending transfers that it ends, earliest first."""
        self.position += 1
        self.timestamp_ns = max(timestamp_ns, self.timestamp_ns + 1)
        due = [p for p in self.pending.values() if not p.ended and 0 < p.expires_ns <= self.timestamp_ns]
        due.sort(key=lambda p: (p.expires_ns, p.reference))
        for pending in due:
            self._release(pending, Status.PENDING_TRANSFER_EXPIRED, 0)
        return [pending.reference for pending in due]

    def no_op(self) -> None:
        """A new leader's empty entry: only the position moves."""
        self.position += 1

    def create_account(self, number: int, ledger: int, flags: int, overdraft_limit: int) -> None:
        self.accounts[number] = Account(ledger, AccountFlag(flags), overdraft_limit, moved_ns=self.timestamp_ns)

    def set_flags(self, number: int, flags: int) -> bool:
        """False = refused: closed accounts stay closed, and one with money or reservations cannot be closed."""
        account = self.accounts[number]
        in_use = account.balance or account.debits_pending or account.credits_pending
        if account.flags & AccountFlag.CLOSED or (flags & AccountFlag.CLOSED and in_use):
            return False
        account.flags = AccountFlag(flags)
        return True

    def set_overdraft_limit(self, number: int, limit: int) -> bool:
        if self.accounts[number].flags & AccountFlag.CLOSED:
            return False
        self.accounts[number].overdraft_limit = limit
        return True

    def transfers(self, batch: list[Transfer]) -> list[Answer]:
        """The transfers of the current entry."""
        answers: list[Answer] = []
        for chain, left_open in _chains(batch):
            answers += self._chain(len(answers), chain, left_open)
        return answers

    # --- one chain ------------------------------------------------------------------------------------------------

    def _chain(self, offset: int, chain: list[Transfer], left_open: bool) -> list[Answer]:
        settled = self._settled_by_ids(offset, chain)
        if settled is None and left_open:
            settled = self._refuse(offset, chain, len(chain) - 1, Status.LINKED_CHAIN_LEFT_OPEN)
        if settled is None:
            settled = self._move_all(offset, chain)
        for transfer, answer in zip(chain, settled, strict=True):
            valid = 0 < transfer.id < ID_MAX
            if valid and transfer.id not in self.decided:
                pending = bool(transfer.flags & TransferFlag.PENDING)
                self.decided[transfer.id] = Decided(transfer.content, answer, pending)
        return settled

    def _settled_by_ids(self, offset: int, chain: list[Transfer]) -> list[Answer] | None:
        """Answers of a chain that is a retry or reuses an id; None = every id is new."""
        broken: dict[int, Status] = {}
        seen: dict[int, Answer] = {}
        before: dict[int, bytes] = {}
        for k, transfer in enumerate(chain):
            first = self.decided.get(transfer.id)
            if transfer.id == 0:
                broken[k] = Status.ID_MUST_NOT_BE_ZERO
            elif transfer.id == ID_MAX:
                broken[k] = Status.ID_MUST_NOT_BE_ALL_ONES
            elif first is not None and first.content == transfer.content:
                seen[k] = first.answer
            elif first is not None or before.get(transfer.id, transfer.content) != transfer.content:
                broken[k] = Status.ID_USED_FOR_ANOTHER_TRANSFER
            elif transfer.id in before:
                broken[k] = Status.ID_USED_OUTSIDE_THIS_CHAIN  # twice in one chain
            before.setdefault(transfer.id, transfer.content)
        if not broken and not seen:
            return None
        if len(seen) == len(chain):
            start = seen[0]
            if all(seen[k].position == start.position and seen[k].offset == start.offset + k for k in seen):
                return [self._again(seen[k]) for k in range(len(chain))]
        outside = dict.fromkeys(seen, Status.ID_USED_OUTSIDE_THIS_CHAIN)
        statuses = outside | broken
        return [self._refused(offset + k, statuses.get(k, Status.LINKED_CHAIN_FAILED)) for k in range(len(chain))]

    @staticmethod
    def _again(first: Answer) -> Answer:
        reference = first.position << 16 | first.offset
        return replace(first, duplicate=True, original=reference, previous=(0, 0))

    def _move_all(self, offset: int, chain: list[Transfer]) -> list[Answer]:
        before = copy.deepcopy((self.accounts, self.pending)) if len(chain) > 1 else None
        answers: list[Answer] = []
        earlier: dict[int, Status] = {}
        for k, transfer in enumerate(chain):
            status = self._first_broken_rule(transfer, earlier)
            if status:
                if before is not None:
                    self.accounts, self.pending = before
                return self._refuse(offset, chain, k, status)
            answers.append(self._move(offset + k, transfer))
            earlier[transfer.id] = Status.OK
        return [self._linked(transfer, answer) for transfer, answer in zip(chain, answers, strict=True)]

    def _refuse(self, offset: int, chain: list[Transfer], culprit: int, status: Status) -> list[Answer]:
        return [
            self._refused(offset + k, status if k == culprit else Status.LINKED_CHAIN_FAILED) for k in range(len(chain))
        ]

    def _refused(self, offset: int, status: Status) -> Answer:
        return Answer(status, self.position, offset, self.timestamp_ns)

    # --- one transfer ---------------------------------------------------------------------------------------------

    def _first_broken_rule(self, t: Transfer, earlier: dict[int, Status]) -> Status:
        status = _form(t)
        if not status and t.flags & ENDS:
            return self._rule_of_end(t, earlier)
        return status or self._rule_of_accounts(t) or self._rule_of_tiers(t) or self._rule_of_sums(t)

    def _rule_of_accounts(self, t: Transfer) -> Status:
        debit, credit = self.accounts.get(t.debit), self.accounts.get(t.credit)
        if debit is None:
            return Status.DEBIT_ACCOUNT_NOT_FOUND
        if credit is None:
            return Status.CREDIT_ACCOUNT_NOT_FOUND
        if debit.ledger != credit.ledger:
            return Status.ACCOUNTS_HAVE_DIFFERENT_LEDGERS
        if t.ledger != debit.ledger:
            return Status.LEDGER_DIFFERS_FROM_ACCOUNTS
        if debit.flags & AccountFlag.CLOSED:
            return Status.DEBIT_ACCOUNT_CLOSED
        if credit.flags & AccountFlag.CLOSED:
            return Status.CREDIT_ACCOUNT_CLOSED
        if debit.flags & AccountFlag.FROZEN:
            return Status.DEBIT_ACCOUNT_FROZEN
        return Status.CREDIT_ACCOUNT_FROZEN if credit.flags & AccountFlag.FROZEN else Status.OK

    def _rule_of_tiers(self, t: Transfer) -> Status:
        if t.code not in COUNTED:
            return Status.OK
        debit, credit = self.accounts[t.debit], self.accounts[t.credit]
        if debit.tier:
            tier, today = self.tiers[debit.tier], self.today(debit)
            if tier.dormant is not None and self.timestamp_ns - debit.moved_ns >= tier.dormant.days * 86_400 * 10**9:
                return Status.DEBIT_ACCOUNT_DORMANT
            if t.amount < tier.minimum:
                return Status.DEBIT_ACCOUNT_UNDER_PAYMENT_MINIMUM
            if t.amount > tier.maximum:
                return Status.DEBIT_ACCOUNT_OVER_PAYMENT_LIMIT
            if debit.used(today, "day") + t.amount > tier.day:
                return Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT
            if debit.used(today, "week") + t.amount > tier.week:
                return Status.DEBIT_ACCOUNT_OVER_WEEK_LIMIT
            if debit.used(today, "month") + t.amount > tier.month:
                return Status.DEBIT_ACCOUNT_OVER_MONTH_LIMIT
        if credit.tier and max(credit.balance + credit.credits_pending, 0) + t.amount > self.tiers[credit.tier].balance:
            return Status.CREDIT_ACCOUNT_OVER_BALANCE_LIMIT
        return Status.OK

    def today(self, account: Account) -> date:
        """Where its tier is; a day that was counted already does not come back when the tier's place changes."""
        offset = self.tiers[account.tier].offset if account.tier else timedelta()
        local = (datetime.fromtimestamp(self.timestamp_ns // 10**9, UTC) + offset).date()
        return max([local, *(one.day for one in account.counted)])

    def _rule_of_sums(self, t: Transfer) -> Status:
        debit, credit = self.accounts[t.debit], self.accounts[t.credit]
        if t.flags & TransferFlag.PENDING:
            if debit.debits_pending + t.amount > AMOUNT_MAX:
                return Status.DEBITS_PENDING_OVERFLOW
            if credit.credits_pending + t.amount > AMOUNT_MAX:
                return Status.CREDITS_PENDING_OVERFLOW
        elif debit.debits_posted + t.amount > AMOUNT_MAX:
            return Status.DEBITS_POSTED_OVERFLOW
        elif credit.credits_posted + t.amount > AMOUNT_MAX:
            return Status.CREDITS_POSTED_OVERFLOW
        if debit.debits_posted + debit.debits_pending + t.amount > AMOUNT_MAX:
            return Status.DEBITS_OVERFLOW
        if credit.credits_posted + credit.credits_pending + t.amount > AMOUNT_MAX:
            return Status.CREDITS_OVERFLOW
        if self.timestamp_ns + t.timeout_s * 10**9 > AMOUNT_MAX:
            return Status.EXPIRY_OVERFLOW
        if not self.has_funds(debit, t.amount):
            return Status.DEBITS_EXCEED_CREDITS
        return Status.REFUSED_BY_FRAUD_CHECK if t.decision == FraudDecision.REFUSE else Status.OK

    def has_funds(self, account: Account, amount: int) -> bool:
        if not account.flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS:
            return True
        return account.available + account.overdraft_limit >= amount

    def _rule_of_end(self, t: Transfer, earlier: dict[int, Status]) -> Status:
        pending = self.pending.get(t.pending_id)
        if pending is None:
            return self._what_it_is_instead(t.pending_id, earlier)
        if t.debit not in (0, pending.debit):
            return Status.PENDING_TRANSFER_HAS_ANOTHER_DEBIT_ACCOUNT
        if t.credit not in (0, pending.credit):
            return Status.PENDING_TRANSFER_HAS_ANOTHER_CREDIT_ACCOUNT
        if t.ledger not in (0, pending.ledger):
            return Status.PENDING_TRANSFER_HAS_ANOTHER_LEDGER
        if pending.ended:
            return pending.ended
        if t.flags & TransferFlag.VOID and t.amount not in (0, pending.amount):
            return Status.VOID_AMOUNT_MUST_BE_ZERO_OR_PENDING_AMOUNT
        return Status.AMOUNT_EXCEEDS_PENDING_AMOUNT if t.amount > pending.amount else Status.OK

    def _what_it_is_instead(self, number: int, earlier: dict[int, Status]) -> Status:
        """Why an id names no pending transfer. Ids that come later in the chain are not there yet."""
        decided = self.decided.get(number)
        if decided is None and number not in earlier:
            return Status.PENDING_TRANSFER_NOT_FOUND
        refused = decided is not None and decided.answer.status
        return Status.PENDING_TRANSFER_WAS_REFUSED if refused else Status.TRANSFER_IS_NOT_PENDING

    def _move(self, offset: int, t: Transfer) -> Answer:
        original = 0
        if t.flags & ENDS:
            pending = self.pending[t.pending_id]
            debit, credit, original = self.accounts[pending.debit], self.accounts[pending.credit], pending.reference
            posted = bool(t.flags & TransferFlag.POST)
            self._release(
                pending,
                Status.PENDING_TRANSFER_ALREADY_POSTED if posted else Status.PENDING_TRANSFER_ALREADY_VOIDED,
                (t.amount or pending.amount) if posted else 0,
            )
            if posted:
                debit.debits_posted += t.amount or pending.amount
                credit.credits_posted += t.amount or pending.amount
        else:
            debit, credit = self.accounts[t.debit], self.accounts[t.credit]
            counted = None
            if debit.tier and t.code in COUNTED:
                counted = Counted(self.today(debit), t.amount)
                debit.counted.append(counted)
            if t.flags & TransferFlag.PENDING:
                debit.debits_pending += t.amount
                credit.credits_pending += t.amount
                expires_ns = self.timestamp_ns + t.timeout_s * 10**9 if t.timeout_s else 0
                reference = self.position << 16 | offset
                self.pending[t.id] = Pending(reference, t.debit, t.credit, t.amount, t.ledger, expires_ns)
                self.pending[t.id].counted = counted
            else:
                debit.debits_posted += t.amount
                credit.credits_posted += t.amount
        balances = (debit.balance, debit.available, credit.balance, credit.available)
        return Answer(Status.OK, self.position, offset, self.timestamp_ns, balances, (0, 0), original)

    def _release(self, pending: Pending, ended: Status, posted: int) -> None:
        self.accounts[pending.debit].debits_pending -= pending.amount
        self.accounts[pending.credit].credits_pending -= pending.amount
        pending.ended = ended
        if pending.counted is not None:
            pending.counted.amount = posted

    def _linked(self, t: Transfer, answer: Answer) -> Answer:
        """The chain is through: the transfer becomes the newest of both accounts' history."""
        numbers = (t.debit, t.credit)
        if t.flags & ENDS:
            numbers = (self.pending[t.pending_id].debit, self.pending[t.pending_id].credit)
        debit, credit = (self.accounts[number] for number in numbers)
        linked = replace(answer, previous=(debit.last, credit.last), held=t.decision in HOLDS)
        debit.last = credit.last = answer.position << 16 | answer.offset
        if not t.flags & ENDS and t.code not in NOT_OF_A_PERSON:
            credit.moved_ns = self.timestamp_ns
            debit.moved_ns = self.timestamp_ns if t.code != TransferCode.ISSUE else debit.moved_ns
        return linked


def _form(t: Transfer) -> Status:
    """The first broken rule of those that need no state; a post or void may leave most fields empty."""
    ends = bool(t.flags & ENDS)
    kinds = (TransferFlag.PENDING, TransferFlag.POST, TransferFlag.VOID)
    rules = (
        (t.scoring != 0, Status.RESERVED_MUST_BE_ZERO),
        ((int(t.flags) | int(KNOWN_FLAGS)) != int(KNOWN_FLAGS), Status.FLAGS_UNKNOWN),
        (sum(1 for kind in kinds if t.flags & kind) > 1, Status.FLAGS_EXCLUDE_EACH_OTHER),
        (t.amount < 0, Status.AMOUNT_MUST_NOT_BE_NEGATIVE),
        (t.amount == 0 and not ends, Status.AMOUNT_MUST_NOT_BE_ZERO),
        (t.code == 0 and not ends, Status.CODE_MUST_NOT_BE_ZERO),
        (t.ledger == 0 and not ends, Status.LEDGER_MUST_NOT_BE_ZERO),
        (t.debit == 0 and not ends, Status.DEBIT_ACCOUNT_MUST_NOT_BE_ZERO),
        (t.credit == 0 and not ends, Status.CREDIT_ACCOUNT_MUST_NOT_BE_ZERO),
        (t.debit == t.credit != 0, Status.ACCOUNTS_MUST_DIFFER),
        (t.timeout_s and not t.flags & TransferFlag.PENDING, Status.TIMEOUT_ONLY_WITH_PENDING),
        (t.pending_id and not ends, Status.PENDING_ID_ONLY_WITH_POST_OR_VOID),
        (ends and not t.pending_id, Status.PENDING_ID_MUST_NOT_BE_ZERO),
        (ends and t.pending_id == t.id, Status.PENDING_ID_MUST_DIFFER_FROM_ID),
    )
    return next((status for broken, status in rules if broken), Status.OK)


def _chains(batch: list[Transfer]) -> Iterator[tuple[list[Transfer], bool]]:
    """(members, whether the batch ended inside it)."""
    chain: list[Transfer] = []
    for transfer in batch:
        chain.append(transfer)
        if not transfer.flags & TransferFlag.LINKED:
            yield chain, False
            chain = []
    if chain:
        yield chain, True
