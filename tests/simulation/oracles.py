"""What must hold in every run, checked while it runs and at its end; whatever does not stands in `violations`."""

from __future__ import annotations

from typing import Any

from node.consensus.contract import EngineStatus, LogEntry
from node.ledger.entry import decode_entry
from node.storage.ledger_store import EntryResult, LedgerStore
from tests.simulation.book import Book
from tests.simulation.requests import Record, Reply, replies_of
from tests.simulation.trace import Trace

VIOLATIONS_MAX = 20
OK, ID_USED, HELD_FOR_REVIEW = 0, 22, 121


class Oracles:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.violations: list[str] = []
        self.acknowledged_position = 0  # the highest that any client was told
        self._agreed: dict[int, tuple[int, bytes, bytes]] = {}  # position -> term, entry, chain hash
        self._states: dict[int, bytes] = {}  # position -> hash of the state
        self._leaders: dict[int, str] = {}
        self._first: dict[int, Reply] = {}  # transfer id -> its one outcome
        self._payments: dict[int, int] = {}  # payment id -> position
        self.book = Book()
        self.entries = 0
        self.acknowledgements = 0
        self.reads = 0

    def violation(self, text: str) -> None:
        self._trace.note(f"VIOLATION {text}")
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(text)

    # The nodes

    def stepped(self, status: EngineStatus) -> None:
        if status.role == "leader":
            leader = self._leaders.setdefault(status.term, status.node_id)
            if leader != status.node_id:
                self.violation(f"term {status.term} is led by {leader} and by {status.node_id}")

    def applied(self, node: str, entry: LogEntry, result: EntryResult, store: LedgerStore) -> None:
        """One command at each position, and the same state behind it, on every node and after every restart."""
        position = entry.position
        self._compare_state(node, position, store)
        what = (entry.term, entry.data, store.chain_hash)
        known = self._agreed.get(position)
        if known == what:
            return
        if known is not None:
            other = "another entry" if known[:2] != what[:2] else "the same entry with another outcome"
            self.violation(f"{node} applied {other} at {position}")
        elif position != len(self._agreed) + 1:
            self.violation(f"{node} applied {position}, but nobody has applied what comes before")
        else:
            self._agreed[position] = what
            self.entries += 1
            self._first_time(entry, result, store)

    def _compare_state(self, node: str, position: int, store: LedgerStore) -> None:
        """At the positions at which running nodes can be compared; also of a node that applies them again."""
        at, state = store.state_hash_kept(position)
        if at == position and self._states.setdefault(position, state) != state:
            self.violation(f"{node} has another state at {position}, by the same entries")

    def _first_time(self, entry: LogEntry, result: EntryResult, store: LedgerStore) -> None:
        if entry.data:
            decoded = decode_entry(entry.data)
            self._note_payments(decoded.payments, entry.position)
            replies = replies_of(result.replies)
            for record, reply in zip(decoded.transfers.tolist(), replies, strict=True):
                self._note_transfer(record, reply, entry.position, result.timestamp_ns)
        for problem in self.book.compare(entry.position, store):
            self.violation(f"at {entry.position}: {problem}")

    def _note_payments(self, payments: Any, position: int) -> None:
        for low, high in zip(payments["id_lo"].tolist(), payments["id_hi"].tolist(), strict=True):
            first = self._payments.setdefault(high << 64 | low, position)
            if first != position:
                self.violation(f"payment {high << 64 | low:#x} is decided at {first} and again at {position}")

    def _note_transfer(self, record: tuple[Any, ...], reply: Reply, position: int, timestamp_ns: int) -> None:
        number = record[1] << 64 | record[0]
        first = self._first.get(number)
        if first is None:
            self._first[number] = reply
            if reply.status in (OK, HELD_FOR_REVIEW):
                self.book.apply(number, record, position, timestamp_ns)
        elif reply.duplicate:
            if (reply.status, reply.position, reply.offset) != (first.status, first.position, first.offset):
                self.violation(f"transfer {number:#x}: its repetition at {position} has another outcome than the first")
        elif reply.status in (OK, HELD_FOR_REVIEW):
            self.violation(f"transfer {number:#x} moved money at {first.position} and again at {position}")

    # The clients

    def acknowledged(self, record: Record) -> None:
        self.acknowledgements += 1
        for number, reply in zip(record.ids, record.replies, strict=True):
            self._tell(reply.position)
            if record.is_reuse:
                if reply.status != ID_USED:
                    self.violation(f"{record.name}: an id with another content got status {reply.status}")
            elif not reply.duplicate and reply.position <= record.floor:
                self.violation(f"{record.name} is at {reply.position}, told after {record.floor} was acknowledged")
            elif self._known(number) != _without_mark(reply):
                self.violation(f"{record.name} was told {reply}, the log says {self._first.get(number)}")

    def _known(self, number: int) -> tuple[int, ...] | None:
        first = self._first.get(number)
        return _without_mark(first) if first is not None else None

    def payment_acknowledged(self, record: Record) -> None:
        self.acknowledgements += 1
        outcome = record.response.outcome
        self._tell(outcome.position)
        if outcome.position and self._payments.get(record.payment_id) != outcome.position:
            self.violation(
                f"{record.name} was told position {outcome.position}, it is at {self._payments.get(record.payment_id)}"
            )

    def _tell(self, position: int) -> None:
        self.acknowledged_position = max(self.acknowledged_position, position)

    def resolved(self, record: Record, found_at: int) -> None:
        """An unknown write was looked up, then repeated."""
        position = record.response.outcome.position if record.payment_id else record.replies[0].position
        if found_at and not record.is_reuse and position != found_at:
            self.violation(f"{record.name} was found at {found_at}, then repeated with position {position}")

    def repeated(self, record: Record, again: Record) -> None:
        """The same id with the same content has the first outcome for ever, refusals included."""
        if record.payment_id:
            before, now = record.response.outcome, again.response.outcome
            same = (before.status, before.position, before.amount_minor) == (now.status, now.position, now.amount_minor)
            same = same and (now.duplicate or not now.position)
        else:
            same = [_without_mark(reply) for reply in record.replies] == [_without_mark(r) for r in again.replies]
            same = record.is_reuse or (same and all(reply.duplicate for reply in again.replies))
        if not same:
            self.violation(f"{record.name} was answered otherwise when it was repeated")

    def balance_read(self, record: Record, as_of: int, account: int, balance_minor: int) -> None:
        """A read sees everything that was acknowledged before it, and a state that existed."""
        self.reads += 1
        if as_of < record.floor:
            self.violation(f"{record.name} read at {as_of}, after {record.floor} was acknowledged")
        elif not self.book.had_balance(account, balance_minor, as_of):
            self.violation(f"{record.name}: account {account} never had {balance_minor} at or after {as_of}")

    def transfer_read(self, record: Record, wanted: Record, response: Any) -> None:
        self.reads += 1
        for reply, stored in zip(wanted.replies, response.transfers, strict=True):
            if stored.result.position != reply.position or stored.result.status != reply.status:
                self.violation(f"{record.name} misses {wanted.name}, acknowledged at {reply.position}")

    def statement_read(self, record: Record, account: int, response: Any) -> None:
        self.reads += 1
        positions = [stored.result.position for stored in response.transfers]
        newest = self.book.last_change(account, response.as_of_position)
        if response.as_of_position < record.floor or (positions[0] if positions else 0) < newest:
            self.violation(f"{record.name} of {account} as of {response.as_of_position} misses a transfer at {newest}")
        if positions != sorted(positions, reverse=True):
            self.violation(f"{record.name} of {account} is out of order")

    # The end

    def finish(self, history: list[Record], stores: list[tuple[str, Any]]) -> None:
        self._same_states(stores)
        running = [(node, store) for node, store in stores if store is not None]
        for number, record in enumerate(history):
            node, store = running[number % len(running)]
            if record.state == "ok" and not record.is_reuse:
                self._is_stored(record, node, store)
            elif record.state == "failed" and not record.is_reuse and self._is_in_log(record):
                self.violation(f"{record.name} surely failed, it was said, but it is in the log")

    def _is_in_log(self, record: Record) -> bool:
        return bool(self._first.keys() & set(record.ids)) or record.payment_id in self._payments

    def _same_states(self, stores: list[tuple[str, Any]]) -> None:
        states = {
            node: (store.applied_position, store.chain_hash.hex()[:12], store.state_hash().hex()[:12])
            for node, store in stores
            if store is not None
        }
        if len(states) < len(stores) or len(set(states.values())) != 1:
            self.violation(f"the nodes ended differently: {states}")

    def _is_stored(self, record: Record, node: str, store: LedgerStore) -> None:
        for number, reply in zip(record.ids, record.replies, strict=True):
            stored = store.lookup_transfer(number)
            if stored is None or (stored.position, stored.offset) != (reply.position, reply.offset):
                self.violation(f"{record.name}, acknowledged at {reply.position}, is not there on {node}")
        if record.payment_id and record.response.outcome.position:
            payment = store.lookup_payment(record.payment_id)
            if payment is None or payment.position != record.response.outcome.position:
                self.violation(f"{record.name}, acknowledged, is not there on {node}")


def _without_mark(reply: Reply) -> tuple[int, ...]:
    return (reply.status, reply.position, reply.offset, reply.debit_balance_minor, reply.credit_balance_minor)
