"""LedgerService: accounts, transfers, lookups, statements. Operators only (node/service/auth.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from kibubu.raft.v1 import raft_pb2

from node.ledger.columns import HANDLE_KEYS, Column
from node.ledger.records import OFFSET_BITS, TRANSFER
from node.ledger.statuses import CommandStatus
from node.ledger.usage import SIM_SHIFT
from node.payments import pin as pin_rules
from node.payments.msisdn import MsisdnError, normalise
from node.service.account_usage import usage_of
from node.service.admission import Admission, Applied
from node.service.codec import (
    id_from_bytes,
    pack_transfers,
    result_messages,
    stored_message,
)
from node.service.errors import InvalidRequestError, UnknownOutcomeError
from node.service.guard import Guard
from node.service.limits import (
    COMMANDS_IN_CALL_MAX,
    LOOKUPS_IN_CALL_MAX,
    NAME_BYTES_MAX,
    STATEMENT_PAGE_DEFAULT,
    STATEMENT_PAGE_MAX,
    TRANSFERS_IN_CALL_MAX,
)
from node.service.reads import ReadBarrier
from node.service.statements import TrialPage, balance_at, statement_page, trial_balance
from node.service.transfer_desk import TransferDesk
from node.storage.ledger_store import LedgerStore, UnknownReferenceError

MAIN_LEDGER = 404  # KES


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    def __init__(
        self,
        store: LedgerStore,
        admission: Admission,
        barrier: ReadBarrier,
        guard: Guard,
        pin_key: bytes,
        desk: TransferDesk,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._time_ns = time_ns
        self._store = store
        self._admission = admission
        self._barrier = barrier
        self._guard = guard
        self._pin_key = pin_key
        self._desk = desk

    # --- writes -------------------------------------------------------------------------------------------------

    async def CreateTransfersPacked(  # noqa: N802
        self, request: ledger_pb2.CreateTransfersPackedRequest, context: Any
    ) -> ledger_pb2.CreateTransfersPackedResponse:
        async with self._guard.call("CreateTransfersPacked", context, leader_only=True):
            packed = request.transfers
            if len(packed) % TRANSFER.itemsize:
                raise InvalidRequestError(
                    f"transfers: {len(packed)} bytes is not a whole number of {TRANSFER.itemsize}-byte records"
                )
            _check_count("transfers", len(packed) // TRANSFER.itemsize, TRANSFERS_IN_CALL_MAX)
            if not packed:
                return ledger_pb2.CreateTransfersPackedResponse()
            replies = await self._desk.create(packed)
            return ledger_pb2.CreateTransfersPackedResponse(replies=replies.tobytes())

    async def CreateTransfers(  # noqa: N802
        self, request: ledger_pb2.CreateTransfersRequest, context: Any
    ) -> ledger_pb2.CreateTransfersResponse:
        async with self._guard.call("CreateTransfers", context, leader_only=True):
            _check_count("transfers", len(request.transfers), TRANSFERS_IN_CALL_MAX)
            if not request.transfers:
                return ledger_pb2.CreateTransfersResponse()
            replies = await self._desk.create(pack_transfers(request.transfers))
            return ledger_pb2.CreateTransfersResponse(results=result_messages(replies))

    async def CreateAccounts(  # noqa: N802
        self, request: ledger_pb2.CreateAccountsRequest, context: Any
    ) -> ledger_pb2.CreateAccountsResponse:
        async with self._guard.call("CreateAccounts", context, leader_only=True):
            _check_count("accounts", len(request.accounts), COMMANDS_IN_CALL_MAX)
            commands = [_creation(account, f"accounts[{i}]") for i, account in enumerate(request.accounts)]
            if not commands:
                return ledger_pb2.CreateAccountsResponse()
            applied = await self._admission.submit(commands=commands)
            await self._set_pins(
                (account.request_id, outcome.account_number, account.pin)
                for account, outcome in zip(request.accounts, applied.commands, strict=True)
                if account.pin and outcome.status in (CommandStatus.OK, CommandStatus.EXISTS)
            )
            return ledger_pb2.CreateAccountsResponse(results=_command_results(applied))

    async def UpdateAccounts(  # noqa: N802
        self, request: ledger_pb2.UpdateAccountsRequest, context: Any
    ) -> ledger_pb2.UpdateAccountsResponse:
        async with self._guard.call("UpdateAccounts", context, leader_only=True):
            _check_count("updates", len(request.updates), COMMANDS_IN_CALL_MAX)
            commands = [self._update(update, f"updates[{i}]") for i, update in enumerate(request.updates)]
            if not commands:
                return ledger_pb2.UpdateAccountsResponse()
            applied = await self._admission.submit(commands=commands)
            return ledger_pb2.UpdateAccountsResponse(results=_command_results(applied))

    async def _set_pins(self, wanted: Any) -> None:
        """A verifier is bound to the account number, which exists only now: a second entry, before the reply."""
        commands = [
            raft_pb2.Command(
                request_id=_derived_request_id(request_id),
                set_pin_verifier=raft_pb2.SetPinVerifier(
                    account_number=number, pin_verifier=pin_rules.verifier(self._pin_key, number, pin)
                ),
            )
            for request_id, number, pin in wanted
        ]
        if commands:
            try:
                await self._admission.submit(commands=commands)
            except Exception as error:
                raise UnknownOutcomeError("accounts exist, their PINs may not be set; ask again") from error

    def _update(self, update: ledger_pb2.AccountUpdate, field: str) -> raft_pb2.Command:
        id_from_bytes(update.request_id, f"{field}.request_id")
        command = raft_pb2.Command(request_id=update.request_id)
        number = update.account_number
        match update.WhichOneof("change"):
            case "add_handle":
                handle = _handle(update.add_handle, f"{field}.add_handle")
                command.add_handle.CopyFrom(raft_pb2.AddHandle(account_number=number, handle=handle))
            case "set_flags":
                command.set_flags.CopyFrom(raft_pb2.SetFlags(account_number=number, flags=update.set_flags))
            case "set_overdraft_limit_minor":
                command.set_overdraft_limit.CopyFrom(
                    raft_pb2.SetOverdraftLimit(
                        account_number=number, overdraft_limit_minor=update.set_overdraft_limit_minor
                    )
                )
            case "set_pin":
                _check_pin(update.set_pin, f"{field}.set_pin")
                verifier = pin_rules.verifier(self._pin_key, number, update.set_pin)
                command.set_pin_verifier.CopyFrom(raft_pb2.SetPinVerifier(account_number=number, pin_verifier=verifier))
            case "reset_pin":
                _check_pin(update.reset_pin, f"{field}.reset_pin")
                verifier = pin_rules.verifier(self._pin_key, number, update.reset_pin)
                command.set_pin_verifier.CopyFrom(
                    raft_pb2.SetPinVerifier(account_number=number, pin_verifier=verifier, temporary=True)
                )
            case "set_sim_swap_time_ns":
                swapped_s = update.set_sim_swap_time_ns // 1_000_000_000
                command.set_sim_swap_time.CopyFrom(raft_pb2.SetSimSwapTime(account_number=number, swapped_s=swapped_s))
            case "block":
                if not update.block:
                    raise InvalidRequestError(f"{field}.block: true or left out; what unblocks is a reset of the PIN")
                command.block_account.CopyFrom(raft_pb2.BlockAccount(account_number=number))
            case "set_tier":
                command.set_tier.CopyFrom(raft_pb2.SetTier(account_number=number, tier=update.set_tier))
            case "set_name":
                _check_name(update.set_name, f"{field}.set_name")
                command.set_name.CopyFrom(raft_pb2.SetName(account_number=number, name=update.set_name))
            case _:
                raise InvalidRequestError(f"{field}.change: missing")
        return command

    # --- reads --------------------------------------------------------------------------------------------------

    async def LookupAccounts(  # noqa: N802
        self, request: ledger_pb2.LookupAccountsRequest, context: Any
    ) -> ledger_pb2.LookupAccountsResponse:
        async with self._guard.call("LookupAccounts", context):
            _check_count("handles", len(request.handles) + len(request.account_numbers), LOOKUPS_IN_CALL_MAX)
            position = await self._read_position(request.stale_ok)
            numbers = list(request.account_numbers)
            numbers += [self._by_handle(handle, f"handles[{i}]") for i, handle in enumerate(request.handles)]
            return ledger_pb2.LookupAccountsResponse(
                accounts=[self._account(number) for number in numbers],
                as_of_position=position,
                as_of_timestamp_ns=self._store.last_timestamp_ns,
                term=self._barrier.term,
            )

    async def LookupTransfers(  # noqa: N802
        self, request: ledger_pb2.LookupTransfersRequest, context: Any
    ) -> ledger_pb2.LookupTransfersResponse:
        async with self._guard.call("LookupTransfers", context):
            _check_count("ids", len(request.ids), LOOKUPS_IN_CALL_MAX)
            ids = [id_from_bytes(raw, f"ids[{i}]") for i, raw in enumerate(request.ids)]
            position = await self._read_position(request.stale_ok)
            found = [stored_message(self._store.lookup_transfer(number)) for number in ids]
            return ledger_pb2.LookupTransfersResponse(
                transfers=found,
                as_of_position=position,
                as_of_timestamp_ns=self._store.last_timestamp_ns,
                term=self._barrier.term,
            )

    async def GetStatement(  # noqa: N802
        self, request: ledger_pb2.GetStatementRequest, context: Any
    ) -> ledger_pb2.GetStatementResponse:
        async with self._guard.call("GetStatement", context):
            size = request.page_size or STATEMENT_PAGE_DEFAULT
            if size > STATEMENT_PAGE_MAX:
                raise InvalidRequestError(f"page_size: at most {STATEMENT_PAGE_MAX}, is {size}")
            _check_span(request.from_time_ns, request.to_time_ns)
            before = _page_reference(request.page_token)
            position = await self._read_position(request.stale_ok)
            number = self._existing(request.account_number)
            try:
                page = await asyncio.to_thread(
                    statement_page, self._store, number, before, size, request.from_time_ns, request.to_time_ns
                )
            except UnknownReferenceError as error:
                raise InvalidRequestError("page_token: not one that this service gave for this account") from error
            return ledger_pb2.GetStatementResponse(
                transfers=[stored_message(stored) for stored in page.transfers],
                next_page_token=str(page.next_reference or ""),
                as_of_position=position,
                as_of_timestamp_ns=self._store.last_timestamp_ns,
                term=self._barrier.term,
            )

    async def GetBalanceAt(  # noqa: N802
        self, request: ledger_pb2.GetBalanceAtRequest, context: Any
    ) -> ledger_pb2.GetBalanceAtResponse:
        async with self._guard.call("GetBalanceAt", context):
            before = _page_reference(request.page_token)
            if request.time_ns <= 0:
                raise InvalidRequestError("time_ns: must be a time after 1970")
            await self._barrier()
            number = self._existing(request.account_number)
            try:
                return await asyncio.to_thread(balance_at, self._store, number, before, request.time_ns)
            except UnknownReferenceError as error:
                raise InvalidRequestError("page_token: not one that this service gave for this account") from error

    async def GetTrialBalance(  # noqa: N802
        self, request: ledger_pb2.GetTrialBalanceRequest, context: Any
    ) -> ledger_pb2.GetTrialBalanceResponse:
        async with self._guard.call("GetTrialBalance", context):
            _check_span(request.from_time_ns, request.to_time_ns)
            page = TrialPage.parse(request.page_token)
            position = await self._barrier()
            if page is None or page.as_of > position:
                raise InvalidRequestError("page_token: not one that this service gave")
            return await asyncio.to_thread(trial_balance, self._store, page, request.from_time_ns, request.to_time_ns)

    def _existing(self, number: int) -> int:
        if not 0 < number <= self._store.accounts_total:
            raise InvalidRequestError(f"account_number: there is no account {number}")
        return number

    async def _read_position(self, stale_ok: bool) -> int:
        return self._store.applied_position if stale_ok else await self._barrier()

    def _by_handle(self, handle: ledger_pb2.Handle, field: str) -> int:
        if handle.key not in HANDLE_KEYS:
            raise InvalidRequestError(f"{field}.key: must be one of {', '.join(HANDLE_KEYS)}, is {handle.key[:20]!r}")
        return self._store.account_by_handle(handle.ledger or MAIN_LEDGER, handle.key, handle.value)

    def _account(self, number: int) -> ledger_pb2.Account:
        if not 0 < number <= self._store.accounts_total:
            return ledger_pb2.Account()
        row = self._store.columns[number].copy()
        profile = self._store.profile(number)
        balance = int(row[Column.CREDITS_POSTED] - row[Column.DEBITS_POSTED])
        return ledger_pb2.Account(
            account_number=number,
            ledger=int(row[Column.LEDGER]),
            kind=int(row[Column.KIND]),
            flags=int(row[Column.FLAGS]),
            overdraft_limit_minor=int(row[Column.OVERDRAFT_LIMIT]),
            balance_minor=balance,
            available_minor=balance - int(row[Column.DEBITS_PENDING]),
            debits_posted_minor=int(row[Column.DEBITS_POSTED]),
            credits_posted_minor=int(row[Column.CREDITS_POSTED]),
            debits_pending_minor=int(row[Column.DEBITS_PENDING]),
            credits_pending_minor=int(row[Column.CREDITS_PENDING]),
            create_time_ns=int(row[Column.CREATED_NS]),
            name=profile.name if profile else "",
            handles=[ledger_pb2.Handle(key=key, value=value) for key, value in profile.handles] if profile else [],
            pin_is_set=bool(np.any(row[Column.PIN_VERIFIER_0 : Column.PIN_VERIFIER_1 + 1])),
            last_position=int(row[Column.LAST_REFERENCE]) >> OFFSET_BITS,
            sim_swap_time_ns=(int(row[Column.TIER]) >> SIM_SHIFT) * 1_000_000_000,
            usage=usage_of(row, self._store.tiers, max(self._time_ns(), self._store.last_timestamp_ns)),
        )


def _check_count(field: str, count: int, maximum: int) -> None:
    if count > maximum:
        raise InvalidRequestError(f"{field}: at most {maximum} in one call, is {count}")


def _check_pin(pin: str, field: str) -> None:
    problem = pin_rules.problem_with(pin)
    if problem:
        raise InvalidRequestError(f"{field}: {problem}")


def _check_name(name: str, field: str) -> None:
    if len(name.encode()) > NAME_BYTES_MAX:
        raise InvalidRequestError(f"{field}: at most {NAME_BYTES_MAX} bytes")


def _handle(handle: ledger_pb2.Handle, field: str) -> raft_pb2.AccountHandle:
    """A phone number in the one form that payments look for; any other would be an account that nobody can pay."""
    if handle.key == "msisdn":
        try:
            is_e164 = normalise(handle.value) == handle.value
        except MsisdnError:
            is_e164 = False
        if not is_e164:
            raise InvalidRequestError(f"{field}.value: must be a mobile number's E.164 digits without +")
    return raft_pb2.AccountHandle(key=handle.key, value=handle.value)


def _creation(account: ledger_pb2.NewAccount, field: str) -> raft_pb2.Command:
    id_from_bytes(account.request_id, f"{field}.request_id")
    _check_name(account.name, f"{field}.name")
    if account.pin:
        _check_pin(account.pin, f"{field}.pin")
    return raft_pb2.Command(
        request_id=account.request_id,
        create_account=raft_pb2.CreateAccount(
            ledger=account.ledger,
            kind=account.kind,
            flags=account.flags,
            overdraft_limit_minor=account.overdraft_limit_minor,
            name=account.name,
            tier=account.tier,
            handles=[_handle(h, f"{field}.handles[{number}]") for number, h in enumerate(account.handles)],
        ),
    )


def _derived_request_id(request_id: bytes) -> bytes:
    """The PIN's own idempotency key: the account's, with the top four bits turned."""
    return bytes([request_id[0] ^ 0xF0]) + request_id[1:]


def _command_results(applied: Applied) -> Sequence[ledger_pb2.CommandResult]:
    return [
        ledger_pb2.CommandResult(
            status=int(outcome.status),
            status_name=CommandStatus(outcome.status).name.lower(),
            account_number=outcome.account_number,
            position=outcome.position,
            timestamp_ns=outcome.timestamp_ns,
        )
        for outcome in applied.commands
    ]


def _check_span(from_ns: int, to_ns: int) -> None:
    if from_ns < 0:
        raise InvalidRequestError(f"from_time_ns: must not be negative, is {from_ns}")
    if to_ns < 0 or (to_ns and to_ns <= from_ns):
        raise InvalidRequestError(f"to_time_ns: must be later than from_time_ns {from_ns}, is {to_ns}")


def _page_reference(token: str) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdecimal() and len(token) <= 20):
        raise InvalidRequestError("page_token: not one that this service gave")
    return int(token)
