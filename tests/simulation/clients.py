"""Clients that ask, follow the leader, and ask again with the same id; some give up and never learn the outcome.

What they were told goes to the oracles at once. After the healing every open question is asked until it is answered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kibubu.ledger.v1 import ledger_pb2
from kibubu.payments.v1 import payments_pb2

from node.ledger.records import TransferFlag
from tests.simulation import requests
from tests.simulation.calls import CallError
from tests.simulation.plan import Op
from tests.simulation.requests import Record

if TYPE_CHECKING:
    from tests.simulation.world import World

RESOLVE_DEADLINE_S = 2.0
PATIENCE_S = 6.0
ASKED_AGAIN_MAX = 6  # acknowledged writes that are repeated at the end of a run


class Clients:
    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("clients")
        self._leaders: dict[int, str] = {}  # who leads, as each client believes
        self._deadline_s = world.settings.deadline_s
        self._stopping = False
        self._running = 0
        self.accounts: dict[str, int] = {}
        self.history: list[Record] = []
        self.is_set_up = self.is_resolved = False

    @property
    def is_idle(self) -> bool:
        return not self._running

    def start(self) -> None:
        ops = self._world.plan.ops
        for client in range(self._world.settings.clients):
            self._running += 1
            self._world.client_loop.create_task(self._client([op for op in ops if op.client == client]))

    def stop_asking(self) -> None:
        self._stopping = True

    # Asking

    async def _ask(self, record: Record, attempts_max: int, patience_s: float, client: int = -1) -> None:
        """Ends with a state that is true: ok, surely failed, or unknown."""
        oracles = self._world.oracles
        target = self._leaders.get(client) or self._another()
        record.floor = oracles.acknowledged_position
        give_up_at = self._world.timeline.now + patience_s
        for _ in range(attempts_max):
            try:
                record.response = await self._world.calls.call(target, record.method, record.request, self._deadline_s)
            except CallError as error:
                record.maybe_applied |= not error.definite
                target = error.leader if error.leader and error.leader != target else self._another()
                if self._world.timeline.now > give_up_at:
                    break
                await asyncio.sleep(self._rng.uniform(0.01, 0.2))
                continue
            record.state = "ok"
            self._leaders[client] = target
            self._world.trace.note(f"{record.name} ok by {target}")
            return
        record.state = "unknown" if record.maybe_applied else "failed"
        self._world.trace.note(f"{record.name} {record.state}")

    def _another(self) -> str:
        return self._rng.choice(self._world.node_ids)

    async def _write(self, record: Record, op: Op) -> None:
        self.history.append(record)
        await self._ask(record, attempts_max=1 + int(op.choice * 100 % 8), patience_s=PATIENCE_S, client=op.client)
        self._told(record)

    def _told(self, record: Record) -> None:
        if record.state != "ok":
            return
        if record.payment_id:
            self._world.oracles.payment_acknowledged(record)
        else:
            record.replies = requests.replies_in(record.response)
            self._world.oracles.acknowledged(record)

    async def _read(self, op: Op, method: str, request: Any) -> Record | None:
        """Some readers stay with a node that led when they last wrote, some ask anybody."""
        record = Record(f"op {op.number} {op.kind}", method, request)
        await self._ask(record, attempts_max=4, patience_s=2.0, client=op.client if op.choice < 0.6 else -2)
        return record if record.state == "ok" else None

    # Operations

    async def _client(self, ops: list[Op]) -> None:
        mine: list[Record] = []
        try:
            for op in ops:
                await asyncio.sleep(op.think_s)
                if self._stopping:
                    return
                await getattr(self, f"_{op.kind}")(op, mine)
        finally:
            self._running -= 1

    def _pair(self, op: Op) -> tuple[int, int]:
        other = op.credit if op.credit != op.debit else (op.debit + 1) % len(requests.CUSTOMERS)
        return self.accounts[requests.CUSTOMERS[op.debit]], self.accounts[requests.CUSTOMERS[other]]

    async def _transfer(self, op: Op, mine: list[Record]) -> None:
        debit, credit = self._pair(op)
        packed = requests.pack(requests.transfer_id(op), debit, credit, op.amount_minor)
        record = requests.write(f"op {op.number} transfer", [packed], friendly=op.choice < 0.25)
        mine.append(record)
        await self._write(record, op)

    async def _bundle(self, op: Op, mine: list[Record]) -> None:
        record = requests.write(f"op {op.number} bundle", requests.bundle(op, *self._pair(op)))
        await self._write(record, op)

    async def _hold(self, op: Op, mine: list[Record]) -> None:
        """Reserve; then post all or half, void, or leave it to its time-out."""
        debit, credit = self._pair(op)
        number, timeout_s = requests.transfer_id(op), (0, 1, 2)[int(op.choice * 3)]
        packed = requests.pack(
            number, debit, credit, op.amount_minor, flags=int(TransferFlag.PENDING), timeout_s=timeout_s
        )
        record = requests.write(f"op {op.number} hold", [packed])
        await self._write(record, op)
        what = int(op.choice * 12 % 4)
        if what == 3:
            return
        await asyncio.sleep(op.think_s * 4)
        amount_minor = op.amount_minor // 2 if what == 1 else 0
        flag = TransferFlag.VOID if what == 2 else TransferFlag.POST
        end = requests.pack(requests.transfer_id(op, 1), 0, 0, amount_minor, flags=int(flag), pending_id=number)
        await self._write(requests.write(f"op {op.number} end of hold", [end]), op)

    async def _pay(self, op: Op, mine: list[Record]) -> None:
        await self._write(requests.payment(op), op)

    async def _reuse(self, op: Op, mine: list[Record]) -> None:
        """An id that was answered before, with another content: it must be refused and change nothing."""
        known = [record for record in mine if record.state == "ok" and record.method == "CreateTransfersPacked"]
        if not known:
            return
        debit, credit = self._pair(op)
        packed = requests.pack(self._rng.choice(known).ids[0], debit, credit, op.amount_minor + 7)
        await self._write(requests.write(f"op {op.number} reuse", [packed], is_reuse=True), op)

    async def _read_accounts(self, op: Op, mine: list[Record]) -> None:
        numbers = list(self._pair(op))
        record = await self._read(op, "LookupAccounts", ledger_pb2.LookupAccountsRequest(account_numbers=numbers))
        if record is not None:
            for account in record.response.accounts:
                self._world.oracles.balance_read(
                    record, record.response.as_of_position, account.account_number, account.balance_minor
                )

    async def _read_transfer(self, op: Op, mine: list[Record]) -> None:
        if not mine:
            return
        wanted = self._rng.choice(mine)
        was_ok = wanted.state == "ok"
        record = await self._read(op, "LookupTransfers", requests.lookup(wanted.ids))
        if record is not None and was_ok:
            self._world.oracles.transfer_read(record, wanted, record.response)

    async def _statement(self, op: Op, mine: list[Record]) -> None:
        request = ledger_pb2.GetStatementRequest(account_number=self._pair(op)[0])
        record = await self._read(op, "GetStatement", request)
        if record is not None:
            self._world.oracles.statement_read(record, request.account_number, record.response)

    async def _check_balance(self, op: Op, mine: list[Record]) -> None:
        request = payments_pb2.CheckBalanceRequest(
            request_id=requests.transfer_id(op).to_bytes(16, "big"),
            msisdn=requests.CUSTOMERS[op.debit],
            currency="KES",
            pin=requests.PIN,
        )
        record = await self._read(op, "CheckBalance", request)
        if record is not None and record.response.status == 0:
            self._world.oracles.balance_read(
                record, record.response.as_of_position, self._pair(op)[0], record.response.balance_minor
            )

    # Before and after

    async def set_up(self) -> None:
        tiers = Record("tiers", "PutDocument", requests.tiers_request())
        await self._ask(tiers, attempts_max=200, patience_s=25.0)
        if tiers.state != "ok":
            return
        creation = Record("accounts", "CreateAccounts", requests.accounts_request())
        await self._ask(creation, attempts_max=200, patience_s=25.0)
        if creation.state != "ok":
            return
        for account, result in zip(creation.request.accounts, creation.response.results, strict=True):
            self.accounts[account.name] = result.account_number
        issuance = self.accounts["KES/issuance"]
        opening = [
            requests.pack(1 << 100 | number, issuance, self.accounts[msisdn], requests.OPENING_MINOR)
            for number, msisdn in enumerate(requests.CUSTOMERS, 1)
        ]
        record = requests.write("opening balances", opening)
        self.history.append(record)
        await self._ask(record, attempts_max=200, patience_s=25.0)
        self._told(record)
        self.is_set_up = record.state == "ok"

    async def resolve(self) -> None:
        """Ask what is unknown until it is known, and some of the known once more: the answer must be the same."""
        self._deadline_s = RESOLVE_DEADLINE_S
        unknown = [record for record in self.history if record.state == "unknown"]
        known = [record for record in self.history if record.state == "ok"]
        for record in unknown:
            await self._resolve(record)
        for record in self._rng.sample(known, min(ASKED_AGAIN_MAX, len(known))):
            await self._ask_again(record)
        self.is_resolved = True

    async def _resolve(self, record: Record) -> None:
        self._world.faults["unknown_resolved"] += 1
        found_at = await self._look_up(record)
        again = Record(f"{record.name} asked again", record.method, record.request, record.ids, record.payment_id)
        again.is_reuse = record.is_reuse
        await self._ask(again, attempts_max=100, patience_s=20.0)
        if again.state != "ok":
            self._world.oracles.violation(f"{record.name} stays unknown in a healed cluster")
            return
        record.state, record.response = "ok", again.response
        self._told(record)
        self._world.oracles.resolved(record, found_at)

    async def _look_up(self, record: Record) -> int:
        """Where the record's first id was decided, 0 = nowhere yet."""
        if record.payment_id:
            request: Any = payments_pb2.LookupPaymentRequest(payment_id=record.payment_id.to_bytes(16, "big"))
            read = Record(f"{record.name} looked up", "LookupPayment", request)
            await self._ask(read, attempts_max=100, patience_s=20.0)
            return int(read.response.outcome.position) if read.state == "ok" and read.response.found else 0
        read = Record(f"{record.name} looked up", "LookupTransfers", requests.lookup(record.ids))
        await self._ask(read, attempts_max=100, patience_s=20.0)
        return int(read.response.transfers[0].result.position) if read.state == "ok" else 0

    async def _ask_again(self, record: Record) -> None:
        again = Record(f"{record.name} repeated", record.method, record.request, record.ids, record.payment_id)
        await self._ask(again, attempts_max=100, patience_s=20.0)
        if again.state == "ok":
            again.replies = [] if record.payment_id else requests.replies_in(again.response)
            self._world.oracles.repeated(record, again)
