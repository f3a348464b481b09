"""Records, commands and entries, as short as a test wants to write them."""

from __future__ import annotations

import itertools

import numpy as np
from kibubu.raft.v1 import raft_pb2

from node.ledger.entry import encode_entry
from node.ledger.records import SCORING_NOT_ZERO, TRANSFER, Records, TransferFlag, split_id
from node.ledger.statuses import FraudDecision
from tests.ledger.model import AMOUNT_MAX, HOLDS, Tier

KES, USD = 404, 840
START_NS = 1_795_500_000_000_000_000
_request_ids = itertools.count(10_000)  # tests name smaller ones


def transfer(number: int, debit: int = 0, credit: int = 0, amount: int = 0, **fields: int) -> Records:
    """One TRANSFER. `fields` are the record's own, and pending_id whole."""
    record = np.zeros(1, dtype=TRANSFER)
    fields = {"ledger": KES, "code": 1_001} | fields
    record["id_lo"], record["id_hi"] = split_id(number)
    record["pending_id_lo"], record["pending_id_hi"] = split_id(fields.pop("pending_id", 0))
    record["debit_account"], record["credit_account"], record["amount_minor"] = debit, credit, amount
    for name, value in fields.items():
        record[name] = value
    return record


def joined(records: list[Records]) -> Records:
    return np.concatenate(records) if records else np.zeros(0, dtype=TRANSFER)


def transfers_entry(records: list[Records], timestamp_ns: int = START_NS, *, scored: bool = False) -> bytes:
    return encode_entry(timestamp_ns, transfers=joined(records).tobytes(), scored=scored, model_version=7)


def decided(records: list[Records], decisions: list[FraudDecision], timeout_s: int = 2) -> list[Records]:
    """The records as a leader writes them after the fraud check: the rules of node/ledger/scoring once more, plainly.

    One decision for each record; NOT_SCORED for what is not to be scored."""
    written = [record.copy() for record in records]
    start = 0
    for end, record in enumerate(records):
        if int(record["flags"][0]) & TransferFlag.LINKED and end + 1 < len(records):
            continue
        chain = range(start, end + 1)
        start = end + 1
        verdicts = {at: decisions[at] for at in chain}
        if any(d in HOLDS for d in verdicts.values()) and FraudDecision.REFUSE not in verdicts.values():
            if all(_is_plain(records[at]) for at in chain):
                verdicts = {at: d if d in HOLDS else FraudDecision.HOLD for at, d in verdicts.items()}
                held = [at for at in chain if not int(records[at]["scoring"][0])]
                for at in held:
                    written[at]["flags"] |= int(TransferFlag.PENDING)
                    written[at]["timeout_s"] = timeout_s
            else:
                verdicts = {at: FraudDecision.REFUSE if d in HOLDS else d for at, d in verdicts.items()}
        for at in chain:
            written[at]["scoring"] = SCORING_NOT_ZERO if int(records[at]["scoring"][0]) else int(verdicts[at])
    return written


def _is_plain(record: Records) -> bool:
    """Neither a reservation nor the end of one, nor wrong in a way that a hold would hide."""
    waits = TransferFlag.PENDING | TransferFlag.POST | TransferFlag.VOID
    return not int(record["flags"][0]) & waits and not int(record["timeout_s"][0])


def command(request_id: int = 0, **action: object) -> raft_pb2.Command:
    """A command with the next unused request id."""
    number = request_id or next(_request_ids)
    return raft_pb2.Command(request_id=number.to_bytes(16, "big"), **action)  # type: ignore[arg-type]


def create(
    ledger: int = KES, kind: int = 1, flags: int = 0, overdraft_limit_minor: int = 0, tier: int = 0
) -> raft_pb2.Command:
    account = raft_pb2.CreateAccount(
        ledger=ledger, kind=kind, flags=flags, overdraft_limit_minor=overdraft_limit_minor, tier=tier
    )
    return command(create_account=account)


def tiers(body: str) -> raft_pb2.Command:
    put = raft_pb2.PutDocument(kind="tiers", key="tiers", body=body.encode(), author="Amina")
    return command(put_document=put)


def tiers_document(tiers: dict[int, Tier]) -> str:
    """As TOML; amounts of the model are minor units."""

    def amount(minor: int) -> str:
        return f'"{minor // 100}.{minor % 100:02}"'

    text = ""
    for number, tier in tiers.items():
        minutes = int(tier.offset.total_seconds()) // 60
        text += f'[[tier]]\nnumber = {number}\nname = "t"\ncurrency = "KES"\nutc_offset_minutes = {minutes}\n'
        limits = {
            "payment_minimum": tier.minimum, "payment_maximum": tier.maximum, "day": tier.day, "week": tier.week,
            "month": tier.month, "balance_maximum": tier.balance,
        }  # fmt: skip
        text += "".join(f"{key} = {amount(minor)}\n" for key, minor in limits.items() if 0 < minor < AMOUNT_MAX)
        text += f"dormant_after_days = {tier.dormant.days}\n" if tier.dormant else ""
    return text


def commands_entry(commands: list[raft_pb2.Command], timestamp_ns: int = START_NS) -> bytes:
    return encode_entry(timestamp_ns, commands=raft_pb2.Commands(commands=commands).SerializeToString())
