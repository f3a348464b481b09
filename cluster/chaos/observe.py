"""Reads every node's log after an ordeal, through public calls alone, and the final balances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import grpc
import numpy as np
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster.calls import Caller, CallError
from cluster.chaos.checker import LOGGED
from cluster.chaos.checker.records import Records
from cluster.layout import Layout
from cluster.vocabulary import STATUS_NOT_FOUND

_PAGE = 1_000
_TIMEOUT_S = 60.0
_WORD = (1 << 64) - 1
Stub = ledger_pb2_grpc.LedgerServiceStub
Row = tuple[int, ...]


def read_logs(
    caller: Caller, layout: Layout, ids: Sequence[int], accounts: Sequence[int], problems: list[str]
) -> dict[str, Records]:
    """What each node itself has (no quorum asked) of these ids, and whatever else is in the accounts' statements. A
    node that does not answer is a problem."""
    wanted = list(dict.fromkeys(ids))
    logs = {}
    for node_id in layout.node_ids:
        try:
            logs[node_id] = _read_log(caller, layout.api_address(node_id), wanted, accounts)
        except CallError as error:
            problems.append(f"{node_id}: its log cannot be read ({error})")
    return logs


def _read_log(caller: Caller, address: str, wanted: list[int], accounts: Iterable[int]) -> Records:
    rows = _lookups(caller, address, wanted)
    known = set(wanted)
    strangers: dict[int, Row] = {}
    for account in accounts:
        _statement(caller, address, account, known, strangers)
    return np.array([*rows, *strangers.values()], LOGGED)


def _lookups(caller: Caller, address: str, ids: list[int]) -> list[Row]:
    rows = []
    for at in range(0, len(ids), _PAGE):
        request = ledger_pb2.LookupTransfersRequest(
            ids=[number.to_bytes(16, "big") for number in ids[at : at + _PAGE]], stale_ok=True
        )
        found = caller.one(address, _lookup_transfers, request, timeout_s=_TIMEOUT_S)
        rows += [_row(one) for one in found.transfers if one.result.status != STATUS_NOT_FOUND]
    return rows


def _lookup_transfers(
    channel: grpc.Channel,
) -> grpc.UnaryUnaryMultiCallable[ledger_pb2.LookupTransfersRequest, ledger_pb2.LookupTransfersResponse]:
    return Stub(channel).LookupTransfers


def _row(stored: ledger_pb2.StoredTransfer) -> Row:
    sent, result = stored.transfer, stored.result
    number, pending = int.from_bytes(sent.id, "big"), int.from_bytes(sent.pending_id, "big")
    return (
        number >> 64, number & _WORD, sent.debit_account, sent.credit_account, sent.amount_minor,
        pending >> 64, pending & _WORD, sent.flags,
        result.status, result.position, result.offset, result.timestamp_ns,
        result.debit_balance_minor, result.debit_available_minor,
        result.credit_balance_minor, result.credit_available_minor,
    )  # fmt: skip


def _statement(caller: Caller, address: str, account: int, known: set[int], strangers: dict[int, Row]) -> None:
    """Adds what nobody asked for by id: money that moved although nobody sent it."""
    token = ""
    while True:
        request = ledger_pb2.GetStatementRequest(
            account_number=account, page_size=_PAGE, page_token=token, stale_ok=True
        )
        page = caller.one(address, lambda c: Stub(c).GetStatement, request, timeout_s=_TIMEOUT_S)
        for stored in page.transfers:
            number = int.from_bytes(stored.transfer.id, "big")
            if number not in known:
                strangers[number] = _row(stored)
        token = page.next_page_token
        if not token:
            return


def read_balances(caller: Caller, accounts_total: int) -> dict[int, int]:
    """Of every account of the ledger, linearizable."""
    balances: dict[int, int] = {}
    for first in range(1, accounts_total + 1, _PAGE):
        numbers = list(range(first, min(first + _PAGE, accounts_total + 1)))
        request = ledger_pb2.LookupAccountsRequest(account_numbers=numbers)
        found = caller.leader(lambda c: Stub(c).LookupAccounts, request)
        balances |= {account.account_number: account.balance_minor for account in found.accounts}
    return balances


def resolve(caller: Caller, ids: Sequence[int]) -> int:
    """Asks the leader for every id whose outcome is open; returns how many were applied after all."""
    applied = 0
    for at in range(0, len(ids), _PAGE):
        request = ledger_pb2.LookupTransfersRequest(ids=[number.to_bytes(16, "big") for number in ids[at : at + _PAGE]])
        found = caller.leader(_lookup_transfers, request)
        applied += sum(one.result.status != STATUS_NOT_FOUND for one in found.transfers)
    return applied
