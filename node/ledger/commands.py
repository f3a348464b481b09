"""The commands that are not transfers: accounts, handles, flags, limits, PIN verifiers, names, languages, documents.
Pure, deterministic."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from kibubu.raft.v1 import raft_pb2

from node.ledger.columns import HANDLE_KEYS, AccountFlag, AccountKind, Column
from node.ledger.documents import put_document
from node.ledger.history import CommandOutcome, Facts, History, Profile, Remembered
from node.ledger.statuses import CommandStatus as C
from node.ledger.tiers import Tiers
from node.ledger.usage import BELOW_SIM, SIM_SHIFT, TIER_MASK

HANDLES_MAX = 8
NAME_BYTES_MAX = 64
ACCOUNTS_MAX = 100_000_000
LEDGER_MAX = 999  # ISO 4217 numbers
_LANGUAGE = re.compile(r"[a-z]{2,3}", re.ASCII)
PIN_VERIFIER_BYTES = 16
_HANDLE_VALUE = re.compile(r"[0-9A-Za-z/_.-]{1,32}", re.ASCII)
# An int, since the complement of an IntFlag keeps to its known members: no unknown flag would ever be found.
_SETTABLE_FLAGS = int(
    AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlag.FROZEN | AccountFlag.CLOSED | AccountFlag.PIN_LOCKED
)


class Accounts(Protocol):
    """The part of the state that commands change."""

    columns: Any
    accounts_total: int
    tiers: Tiers

    def new_row(self) -> int: ...

    def touch(self, account_number: int) -> None: ...


def apply_command(
    accounts: Accounts, history: History, facts: Facts, command: raft_pb2.Command, position: int, timestamp_ns: int
) -> CommandOutcome:
    """Once per request id; a retry gets the first account number, a reused id is refused."""
    if not any(command.request_id) or len(command.request_id) != 16:
        return CommandOutcome(C.REQUEST_ID_MUST_NOT_BE_ZERO, 0, position, timestamp_ns)
    content_hash = hashlib.blake2b(command.SerializeToString(deterministic=True), digest_size=16).digest()
    before = history.remembered(command.request_id)
    if before is not None:
        if before.content_hash != content_hash:
            return CommandOutcome(C.REQUEST_ID_USED_FOR_ANOTHER_REQUEST, 0, position, timestamp_ns)
        first = before.outcome
        status = C.EXISTS if first.status is C.OK else first.status
        return CommandOutcome(status, first.account_number, first.position, first.timestamp_ns)
    decided, number = _apply(accounts, history, facts, command, position, timestamp_ns)
    outcome = CommandOutcome(decided, number, position, timestamp_ns)
    facts.remember(command.request_id, Remembered(content_hash, outcome))
    return outcome


def _apply(
    accounts: Accounts, history: History, facts: Facts, command: raft_pb2.Command, position: int, timestamp_ns: int
) -> tuple[C, int]:
    kind = command.WhichOneof("action")
    if kind == "create_account":
        return _create(accounts, history, facts, command.create_account, timestamp_ns)
    if kind == "put_document":
        return put_document(accounts, history, facts, command.put_document, position, timestamp_ns)
    if kind in ("note_wrong_secret", "note_declined"):
        return C.OK, 0  # being remembered is all that it does
    if kind is None:
        return C.COMMAND_UNKNOWN, 0
    action = getattr(command, kind)
    number = action.account_number
    if not 0 < number <= accounts.accounts_total:
        return C.ACCOUNT_NOT_FOUND, 0
    if int(accounts.columns[number, Column.FLAGS]) & AccountFlag.CLOSED:
        return C.ACCOUNT_CLOSED, number
    status = _CHANGES[kind](accounts, history, facts, action, timestamp_ns)
    if status is C.OK:
        accounts.touch(number)
    return status, number


def _create(
    accounts: Accounts, history: History, facts: Facts, new: raft_pb2.CreateAccount, timestamp_ns: int
) -> tuple[C, int]:
    if not 0 < new.ledger <= LEDGER_MAX:
        return C.LEDGER_UNKNOWN, 0
    if new.kind not in AccountKind.__members__.values():
        return C.KIND_UNKNOWN, 0
    if new.flags & ~_SETTABLE_FLAGS or new.flags & AccountFlag.CLOSED:
        return C.FLAGS_UNKNOWN, 0
    if new.overdraft_limit_minor < 0:
        return C.OVERDRAFT_LIMIT_MUST_NOT_BE_NEGATIVE, 0
    if len(new.handles) > HANDLES_MAX:
        return C.HANDLES_TOO_MANY, 0
    if len(new.name.encode()) > NAME_BYTES_MAX:
        return C.NAME_TOO_LONG, 0
    if len(new.pin_verifier) not in (0, PIN_VERIFIER_BYTES):
        return C.PIN_VERIFIER_MALFORMED, 0
    if accounts.accounts_total >= ACCOUNTS_MAX:
        return C.ACCOUNTS_TOO_MANY, 0
    problem = _tier_problem(accounts, new.tier, new.ledger)
    if problem is not C.OK:
        return problem, 0
    taken: set[tuple[str, str]] = set()
    for handle in new.handles:
        problem = _handle_problem(history, new.ledger, handle)
        if problem is not C.OK:
            return problem, 0
        if (handle.key, handle.value) in taken:
            return C.HANDLE_USED_BY_ANOTHER_ACCOUNT, 0
        taken.add((handle.key, handle.value))
    # After this point the account must come into being.
    number = accounts.new_row()
    row = accounts.columns[number]
    row[Column.LEDGER], row[Column.KIND], row[Column.FLAGS] = new.ledger, new.kind, new.flags
    row[Column.OVERDRAFT_LIMIT], row[Column.CREATED_NS] = new.overdraft_limit_minor, timestamp_ns
    row[Column.TIER] = new.tier
    if new.pin_verifier:
        _write_verifier(row, new.pin_verifier, timestamp_ns)
    for handle in new.handles:
        facts.set_handle(new.ledger, handle.key, handle.value, number)
    facts.set_profile(number, Profile(new.name, tuple((handle.key, handle.value) for handle in new.handles)))
    accounts.touch(number)
    return C.OK, number


def _tier_problem(accounts: Accounts, number: int, ledger: int) -> C:
    tier = accounts.tiers.by_number.get(number)
    if number == 0:
        return C.OK
    if tier is None:
        return C.TIER_UNKNOWN
    return C.OK if tier.ledger == ledger else C.TIER_HAS_ANOTHER_CURRENCY


def _set_tier(accounts: Accounts, _h: History, _f: Facts, action: raft_pb2.SetTier, _: int) -> C:
    """What was used of the old tier's limits counts against the new one's."""
    row = accounts.columns[action.account_number]
    problem = _tier_problem(accounts, action.tier, int(row[Column.LEDGER]))
    if problem is C.OK:
        row[Column.TIER] = int(row[Column.TIER]) & ~TIER_MASK | action.tier
    return problem


def _handle_problem(history: History, ledger: int, handle: raft_pb2.AccountHandle) -> C:
    if handle.key not in HANDLE_KEYS:
        return C.HANDLE_KEY_UNKNOWN
    if not _HANDLE_VALUE.fullmatch(handle.value):
        return C.HANDLE_VALUE_MALFORMED
    if history.account_by_handle(ledger, handle.key, handle.value):
        return C.HANDLE_USED_BY_ANOTHER_ACCOUNT
    return C.OK


def _add_handle(accounts: Accounts, history: History, facts: Facts, action: raft_pb2.AddHandle, _: int) -> C:
    number, handle = action.account_number, action.handle
    ledger = int(accounts.columns[number, Column.LEDGER])
    profile = history.profile(number) or Profile("", ())
    if len(profile.handles) >= HANDLES_MAX:
        return C.HANDLES_TOO_MANY
    problem = _handle_problem(history, ledger, handle)
    if problem is not C.OK:
        return problem
    facts.set_handle(ledger, handle.key, handle.value, number)
    facts.set_profile(number, replace(profile, handles=(*profile.handles, (handle.key, handle.value))))
    return C.OK


def _set_flags(accounts: Accounts, _h: History, _f: Facts, action: raft_pb2.SetFlags, _: int) -> C:
    row = accounts.columns[action.account_number]
    if action.flags & ~_SETTABLE_FLAGS:
        return C.FLAGS_UNKNOWN
    if action.flags & AccountFlag.CLOSED:
        sums = (Column.DEBITS_PENDING, Column.CREDITS_PENDING)
        if row[Column.DEBITS_POSTED] != row[Column.CREDITS_POSTED] or any(row[column] for column in sums):
            return C.ACCOUNT_HAS_BALANCE
    if not action.flags & AccountFlag.PIN_LOCKED:
        row[Column.PIN_TRIES] = 0
    row[Column.FLAGS] = action.flags | int(row[Column.FLAGS]) & AccountFlag.PIN_TEMPORARY
    return C.OK


def _set_overdraft_limit(accounts: Accounts, _h: History, _f: Facts, action: raft_pb2.SetOverdraftLimit, _: int) -> C:
    if action.overdraft_limit_minor < 0:
        return C.OVERDRAFT_LIMIT_MUST_NOT_BE_NEGATIVE
    accounts.columns[action.account_number, Column.OVERDRAFT_LIMIT] = action.overdraft_limit_minor
    return C.OK


def _set_pin_verifier(
    accounts: Accounts, _h: History, _f: Facts, action: raft_pb2.SetPinVerifier, timestamp_ns: int
) -> C:
    if len(action.pin_verifier) != PIN_VERIFIER_BYTES:
        return C.PIN_VERIFIER_MALFORMED
    row = accounts.columns[action.account_number]
    _write_verifier(row, action.pin_verifier, timestamp_ns)
    if action.temporary:
        row[Column.FLAGS] |= int(AccountFlag.PIN_TEMPORARY)
    return C.OK


def _set_sim_swap_time(
    accounts: Accounts, _h: History, _f: Facts, action: raft_pb2.SetSimSwapTime, timestamp_ns: int
) -> C:
    if not 0 <= action.swapped_s <= timestamp_ns // 1_000_000_000:
        return C.SIM_SWAP_TIME_MALFORMED
    row = accounts.columns[action.account_number]
    row[Column.TIER] = int(row[Column.TIER]) & BELOW_SIM | action.swapped_s << SIM_SHIFT
    return C.OK


def _block_account(accounts: Accounts, _h: History, _f: Facts, action: raft_pb2.BlockAccount, _: int) -> C:
    accounts.columns[action.account_number, Column.FLAGS] |= int(AccountFlag.PIN_LOCKED)
    return C.OK


def _set_name(_a: Accounts, history: History, facts: Facts, action: raft_pb2.SetName, _: int) -> C:
    if len(action.name.encode()) > NAME_BYTES_MAX:
        return C.NAME_TOO_LONG
    profile = history.profile(action.account_number) or Profile("", ())
    facts.set_profile(action.account_number, replace(profile, name=action.name))
    return C.OK


def _set_language(_a: Accounts, history: History, facts: Facts, action: raft_pb2.SetLanguage, _: int) -> C:
    if not _LANGUAGE.fullmatch(action.language):
        return C.LANGUAGE_MALFORMED
    profile = history.profile(action.account_number) or Profile("", ())
    facts.set_profile(action.account_number, replace(profile, language=action.language))
    return C.OK


def _write_verifier(row: Any, verifier: bytes, timestamp_ns: int) -> None:
    row[Column.PIN_VERIFIER_0 : Column.PIN_VERIFIER_1 + 1] = np.frombuffer(verifier, dtype="<i8")
    row[Column.PIN_TRIES] = 0
    row[Column.PIN_SET_NS] = timestamp_ns
    row[Column.FLAGS] &= ~int(AccountFlag.PIN_LOCKED | AccountFlag.PIN_TEMPORARY)


_CHANGES: dict[str, Any] = {
    "add_handle": _add_handle,
    "set_flags": _set_flags,
    "set_overdraft_limit": _set_overdraft_limit,
    "set_pin_verifier": _set_pin_verifier,
    "set_name": _set_name,
    "set_language": _set_language,
    "set_tier": _set_tier,
    "set_sim_swap_time": _set_sim_swap_time,
    "block_account": _block_account,
}
