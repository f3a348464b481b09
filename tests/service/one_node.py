"""The real ledger behind a log that a test ends by hand: everything of a leader but the other nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from kibubu.raft.v1 import raft_pb2

from node.consensus.contract import (
    EngineStatus,
    LogEntry,
    ProposalCallback,
    ProposalOutcome,
    ProposalStatus,
    ReadCallback,
)
from node.ledger.columns import AccountFlag, AccountKind
from node.ledger.entry import encode_entry
from node.ledger.records import TRANSFER
from node.payments import pin as pin_rules
from node.storage.ledger_store import EntryResult, LedgerStore, StoreConfig

PIN_KEY = b"k" * 32
PIN = "2468"
START_NS = 1_795_500_000_000_000_000


class OneNode:
    """Implements contract.Consensus. `immediate`: entries are applied as they are proposed."""

    def __init__(self, folder: Path, *, immediate: bool = True) -> None:
        self.store = LedgerStore(folder, StoreConfig("test", "n1", map_bytes=1 << 28))
        self.immediate = immediate
        self.waiting: list[tuple[bytes, ProposalCallback]] = []
        self.is_leader = True
        self.proposed = 0
        self._requests = 0

    def propose(self, data: bytes, callback: ProposalCallback) -> None:
        self.proposed += 1
        if not self.is_leader:
            callback(ProposalOutcome(ProposalStatus.REFUSED_NOT_LEADER))
        elif self.immediate:
            callback(ProposalOutcome(ProposalStatus.APPLIED, self.store.applied_position + 1, self.write(data)))
        else:
            self.waiting.append((data, callback))

    def apply_next(self) -> None:
        data, callback = self.waiting.pop(0)
        result = self.write(data)
        callback(ProposalOutcome(ProposalStatus.APPLIED, result.position, result))

    def lose_next(self, *, but_apply: bool) -> None:
        """Leadership is lost: the caller hears nothing certain, whatever became of the entry."""
        data, callback = self.waiting.pop(0)
        if but_apply:
            self.write(data)
        callback(ProposalOutcome(ProposalStatus.UNKNOWN))

    def read_index(self, callback: ReadCallback) -> None:
        callback(self.store.applied_position if self.is_leader else None)

    def status(self) -> EngineStatus:
        role = "leader" if self.is_leader else "follower"
        at = self.store.applied_position
        return EngineStatus("n1", role, 1, "n1", at, at, at, 0, 2, {}, self.is_leader)

    def write(self, data: bytes) -> EntryResult:
        return self.store.apply([LogEntry(self.store.applied_position + 1, 1, data)])[0]

    def account(
        self,
        key: str,
        value: str,
        *,
        kind: AccountKind = AccountKind.CUSTOMER,
        pin: str = "",
        flags: int = 1,
        name: str = "",
        ledger: int = 404,
    ) -> int:
        create = raft_pb2.CreateAccount(
            ledger=ledger,
            kind=kind,
            flags=flags,
            name=name or value,
            handles=[raft_pb2.AccountHandle(key=key, value=value)],
        )
        number = self.command(create_account=create)
        if pin:
            self.set_pin(number, pin)
        return number

    def set_pin(self, number: int, pin: str) -> None:
        verifier = pin_rules.verifier(PIN_KEY, number, pin)
        self.command(set_pin_verifier=raft_pb2.SetPinVerifier(account_number=number, pin_verifier=verifier))

    def add_handle(self, number: int, key: str, value: str) -> None:
        handle = raft_pb2.AccountHandle(key=key, value=value)
        self.command(add_handle=raft_pb2.AddHandle(account_number=number, handle=handle))

    def command(self, **action: object) -> int:
        self._requests += 1
        command = raft_pb2.Command(request_id=self._requests.to_bytes(16, "big"), **action)  # type: ignore[arg-type]
        data = encode_entry(START_NS, commands=raft_pb2.Commands(commands=[command]).SerializeToString())
        outcome = self.write(data).commands[0]
        assert outcome.status == 0, outcome
        return outcome.account_number

    def set_flags(self, number: int, flags: AccountFlag) -> None:
        self.command(set_flags=raft_pb2.SetFlags(account_number=number, flags=flags))

    def fund(self, number: int, amount_minor: int, source: int, ledger: int = 404) -> None:
        record = bytearray(TRANSFER.itemsize)
        self._requests += 1
        fields = {
            "id_lo": self._requests, "id_hi": 1 << 40, "debit_account": source, "credit_account": number,
            "amount_minor": amount_minor, "ledger": ledger, "code": 1,
        }  # fmt: skip
        view = np.frombuffer(record, TRANSFER)
        for name, value in fields.items():
            view[name] = value
        result = self.write(encode_entry(START_NS, transfers=bytes(record)))
        assert int(result.replies["status"][0]) == 0

    def people(self) -> dict[str, int]:
        """The operator's accounts, three customers and two merchants."""
        issuance = self.account("system", "KES/issuance", kind=AccountKind.ISSUANCE, flags=0)
        numbers = {"issuance": issuance}
        for name, kind in (
            ("fees", AccountKind.FEE_REVENUE),
            ("excise", AccountKind.EXCISE_DUTY),
            ("airtime", AccountKind.AIRTIME),
        ):
            numbers[name] = self.account("system", f"KES/{name}", kind=kind)
        for name, msisdn in (("wanjiku", "254712000001"), ("otieno", "254712000002"), ("achieng", "254712000003")):
            numbers[name] = self.account("msisdn", msisdn, pin=PIN, name=name.title())
            self.fund(numbers[name], 1_000_000, issuance)
        numbers["till"] = self.account("till", "123456", kind=AccountKind.TILL)
        numbers["paybill"] = self.account("paybill", "888880", kind=AccountKind.PAYBILL)
        return numbers

    def agents(self, pin: str = PIN) -> dict[str, int]:
        """Two agents with float, the operator's accounts for commissions and vouchers, and a phone for the till."""
        issuance = self.store.account_by_handle(404, "system", "KES/issuance")
        numbers = {"commissions": self.account("system", "KES/commissions", kind=AccountKind.OTHER, flags=0)}
        numbers["vouchers"] = self.account("system", "KES/vouchers", kind=AccountKind.SUSPENSE)
        for name, number, title in (("agent", "20001", "Agent One"), ("agent2", "20002", "Agent Two")):
            numbers[name] = self.account("agent", number, kind=AccountKind.AGENT, pin=pin, name=title)
            self.fund(numbers[name], 5_000_000, issuance)
        self.add_handle(numbers["agent"], "msisdn", "254711000001")
        self.add_handle(self.store.account_by_handle(404, "till", "123456"), "msisdn", "254711000009")
        return numbers

    def abroad(self, rate: str = "28.45") -> dict[str, int]:
        """Uganda: a customer, liquidity on both sides, and a rate that holds for five minutes."""
        numbers = {"liquidity": self.account("system", "KES/liquidity", kind=AccountKind.LIQUIDITY)}
        issuance = self.account("system", "UGX/issuance", kind=AccountKind.ISSUANCE, flags=0, ledger=800)
        for name, key, value, kind in (
            ("liquidity_ugx", "system", "UGX/liquidity", AccountKind.LIQUIDITY),
            ("nakato", "msisdn", "256772000001", AccountKind.CUSTOMER),
        ):
            numbers[name] = self.account(key, value, kind=kind, ledger=800, name=name.title())
        self.fund(numbers["liquidity_ugx"], 100_000, issuance, ledger=800)
        self.put_rate("KES/UGX", rate)
        return numbers

    def put_rate(self, pair: str, rate: str) -> None:
        put = raft_pb2.PutDocument(kind="rates", key=pair, body=f'rate = "{rate}"'.encode(), author="amina")
        self.command(put_document=put)
