"""Group commit: whatever waits, from all clients, goes into the next log entry.

Runs on the service's event loop alone. Entries are pipelined: while some are being replicated the next one gathers;
one waiting caller is proposed at once, a thousand share one entry and one sync. A round costs all nodes as much as some
tens of transfers: so of small entries only two are on their way at once, and few callers of a crowd wait for the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from kibubu.raft.v1 import raft_pb2

from node.consensus.contract import Consensus, ProposalOutcome, ProposalStatus
from node.ledger.entry import BATCH_PAYMENTS_MAX, COMMANDS_BYTES_MAX, encode_entry
from node.ledger.records import BATCH_TRANSFERS_MAX, PAYMENT, TRANSFER, Records, TransferFlag
from node.service.errors import NotAppliedError, QueueFullError, UnknownOutcomeError
from node.service.limits import (
    CROWD_MIN,
    ENTRIES_IN_FLIGHT_MAX,
    LINGER_S,
    OUTCOME_WAIT_S,
    QUEUED_COMMANDS_MAX,
    QUEUED_TRANSFERS_MAX,
    SMALL_ENTRIES_IN_FLIGHT_MAX,
    SMALL_ENTRY_MAX,
    TINY_ENTRY_MAX,
)
from node.service.metrics import NodeMetrics

_LINKED = int(TransferFlag.LINKED)
_LAST_FLAGS_AT = 90 - TRANSFER.itemsize  # their low byte, from the end of a batch


class CommandOutcome(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def account_number(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def timestamp_ns(self) -> int: ...


class EntryResult(Protocol):
    """What the state machine answers for one entry."""

    @property
    def position(self) -> int: ...
    @property
    def timestamp_ns(self) -> int: ...
    @property
    def commands(self) -> Sequence[CommandOutcome]: ...
    @property
    def replies(self) -> Records: ...
    @property
    def pin_tries(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class Applied:
    """One caller's share of an applied entry."""

    position: int
    timestamp_ns: int
    commands: Sequence[CommandOutcome]
    replies: Records
    pin_tries: Sequence[int]
    first_payment: int = 0  # offset of the share's payments among the entry's


@dataclass(slots=True)
class _Item:
    commands: Sequence[raft_pb2.Command]
    command_bytes: int
    payments: bytes | bytearray
    transfers: bytes
    future: asyncio.Future[Applied]
    admitted_at: float
    payment_count: int
    transfer_count: int
    scored: bool
    model_version: int
    thresholds_version: int

    @property
    def scoring(self) -> tuple[bool, int, int] | None:
        """Whose the transfers' scoring words are: an entry says it of all at once. None = of no matter, since there are
        no transfers, or only the legs of payments, which the leader has made."""
        if self.payments or not self.transfers:
            return None
        return self.scored, self.model_version, self.thresholds_version

    @property
    def chain_is_open(self) -> bool:
        """The last transfer says that the next one belongs to it: nobody else's may come next."""
        return bool(self.transfers and self.transfers[_LAST_FLAGS_AT] & _LINKED)


class Admission:
    def __init__(
        self,
        consensus: Consensus,
        metrics: NodeMetrics,
        *,
        leader_address: Callable[[], str],
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._consensus = consensus
        self._metrics = metrics
        self._leader_address = leader_address
        self._time_ns = time_ns
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Item] = deque()
        self._queued_transfers = 0
        self._queued_commands = 0
        self._in_flight = 0
        self._pump_is_due = False
        self._callers = 0  # of the last entry

    @property
    def queue_length(self) -> int:
        return self._queued_transfers + self._queued_commands

    async def submit(
        self,
        *,
        commands: Sequence[raft_pb2.Command] = (),
        payments: bytes | bytearray = b"",
        transfers: bytes = b"",
        scored: bool = False,
        model_version: int = 0,
        thresholds_version: int = 0,
        wait_s: float | None = OUTCOME_WAIT_S,
    ) -> Applied:
        """Propose and wait; wait_s None = until the engine knows. `scored`: the transfers' scoring words are the
        leader's own, after a look at them by this model and these thresholds. Raises NotAppliedError, QueueFullError or
        UnknownOutcomeError."""
        future: asyncio.Future[Applied] = self._loop.create_future()
        command_bytes = sum(command.ByteSize() + 8 for command in commands)
        n_commands, n_transfers = len(commands), len(transfers) // TRANSFER.itemsize
        n_payments = len(payments) // PAYMENT.itemsize
        item = _Item(
            commands, command_bytes, payments, transfers, future, time.perf_counter(), n_payments, n_transfers, scored,
            model_version, thresholds_version,
        )  # fmt: skip
        if (
            self._queued_transfers + n_transfers > QUEUED_TRANSFERS_MAX
            or self._queued_commands + n_commands > QUEUED_COMMANDS_MAX
        ):
            self._metrics.queue_refusals.inc()
            raise QueueFullError("the queue of this node is full; nothing was applied")
        self._queued_transfers += n_transfers
        self._queued_commands += n_commands
        self._waiting.append(item)
        self._wake()
        if wait_s is None:
            return await future
        limit = self._loop.call_later(wait_s, _give_up, future)
        try:
            return await future
        finally:
            limit.cancel()

    def _wake(self) -> None:
        if self._pump_is_due or not self._waiting or not self._has_turn():
            return
        self._pump_is_due = True
        if self._waits_for_a_crowd():
            self._loop.call_later(LINGER_S, self._pump)
        else:
            self._loop.call_soon(self._pump)  # a turn of the loop later: calls that arrived together share an entry

    def _pump(self) -> None:
        self._pump_is_due = False
        while self._waiting and self._has_turn():
            items = self._gather()
            if items:
                self._propose(items)

    def _has_turn(self) -> bool:
        if self.queue_length > SMALL_ENTRY_MAX:
            return self._in_flight < ENTRIES_IN_FLIGHT_MAX
        return self._in_flight < (1 if self._waits_for_a_crowd() else SMALL_ENTRIES_IN_FLIGHT_MAX)

    def _waits_for_a_crowd(self) -> bool:
        """Few wait, but many shared the last entry: those are still about to come again."""
        return self._callers >= CROWD_MIN and self.queue_length <= TINY_ENTRY_MAX

    def _gather(self) -> list[_Item]:
        """The longest prefix of the queue that fits one entry; what its caller has given up is left out."""
        items: list[_Item] = []
        scoring: tuple[bool, int, int] | None = None
        transfers = payments = command_bytes = 0
        while self._waiting:
            item = self._waiting[0]
            transfers += item.transfer_count
            payments += item.payment_count
            command_bytes += item.command_bytes
            too_much = (
                transfers > BATCH_TRANSFERS_MAX or payments > BATCH_PAYMENTS_MAX or command_bytes > COMMANDS_BYTES_MAX
            )
            if items and (too_much or (scoring and item.scoring and scoring != item.scoring)):
                break
            self._waiting.popleft()
            self._queued_transfers -= item.transfer_count
            self._queued_commands -= len(item.commands)
            if item.future.done():
                transfers -= item.transfer_count
                payments -= item.payment_count
                command_bytes -= item.command_bytes
                continue
            items.append(item)
            scoring = scoring or item.scoring
            if item.chain_is_open:
                break
        return items

    def _propose(self, items: list[_Item]) -> None:
        commands = [command for item in items for command in item.commands]
        transfers = b"".join([item.transfers for item in items]) if len(items) > 1 else items[0].transfers
        scored, model, thresholds = next((item.scoring for item in items if item.scoring), (False, 0, 0))
        data = encode_entry(
            self._time_ns(),
            commands=raft_pb2.Commands(commands=commands).SerializeToString() if commands else b"",
            payments=_joined_payments(items),
            transfers=transfers,
            scored=scored,
            model_version=model,
            thresholds_version=thresholds,
        )
        proposed_at = time.perf_counter()
        for item in items:
            self._metrics.stage_admit.observe(proposed_at - item.admitted_at)
        self._metrics.batch_transfers.observe(len(transfers) // TRANSFER.itemsize)
        self._in_flight += 1
        self._callers = len(items)

        def on_engine_thread(outcome: ProposalOutcome) -> None:
            self._loop.call_soon_threadsafe(self._settle, items, outcome, proposed_at)

        self._consensus.propose(data, on_engine_thread)

    def _settle(self, items: list[_Item], outcome: ProposalOutcome, proposed_at: float) -> None:
        self._in_flight -= 1
        now = time.perf_counter()
        self._metrics.stage_replicate.observe(now - proposed_at)
        if outcome.status is ProposalStatus.APPLIED:
            self._hand_out(items, outcome.result)  # type: ignore[arg-type]
        else:
            error = self._error(outcome.status)
            for item in items:
                if not item.future.done():
                    item.future.set_exception(error())
        for item in items:
            self._metrics.stage_total.observe(now - item.admitted_at)
        self._wake()

    def _error(self, status: ProposalStatus) -> Callable[[], Exception]:
        leader = self._leader_address()
        match status:
            case ProposalStatus.REFUSED_QUEUE_FULL:
                return lambda: QueueFullError("the log of this node takes no more now; nothing was applied", leader)
            case ProposalStatus.REFUSED_NO_ROOM:
                return lambda: QueueFullError("the disk of this node is nearly full; nothing was applied", leader)
            case ProposalStatus.UNKNOWN:
                return lambda: UnknownOutcomeError("leadership was lost; ask again with the same id")
            case _:
                return lambda: NotAppliedError("this node is not the leader; nothing was applied", leader)

    @staticmethod
    def _hand_out(items: list[_Item], result: EntryResult) -> None:
        command = transfer = payment = 0
        for item in items:
            commands, transfers, payments = len(item.commands), item.transfer_count, item.payment_count
            if not item.future.done():
                share = Applied(
                    result.position,
                    result.timestamp_ns,
                    result.commands[command : command + commands],
                    result.replies[transfer : transfer + transfers],
                    result.pin_tries[payment : payment + payments],
                    payment,
                )
                item.future.set_result(share)
            command, transfer, payment = command + commands, transfer + transfers, payment + payments


def _give_up(future: asyncio.Future[Applied]) -> None:
    if not future.done():
        future.set_exception(UnknownOutcomeError("no outcome in time; ask again with the same id"))


def _joined_payments(items: list[_Item]) -> bytes:
    """The payment records of all callers, their first-leg offsets moved to where their transfers now lie."""
    parts: list[bytes] = []
    base = 0
    for item in items:
        if item.payments:
            records = np.frombuffer(bytearray(item.payments), PAYMENT)
            records["first_transfer"] += base
            parts.append(records.tobytes())
        base += item.transfer_count
    return b"".join(parts)
