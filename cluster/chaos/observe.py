"""Reads the ledger after an ordeal, through its public calls alone."""

from __future__ import annotations

from kibubu.ledger.v1 import ledger_pb2

from cluster.chaos.history import Found, History, Observed
from cluster.vocabulary import STATUS_NOT_FOUND
from kibubu_client import Client, id_bytes

_PAGE = 1_000


async def observe(client: Client, history: History, accounts: list[int], accounts_total: int) -> Observed:
    observed = Observed(opening_minor=dict.fromkeys(accounts, 0))
    ids = [sent.id for sent in history.sent]
    for at in range(0, len(ids), _PAGE):
        part = ids[at : at + _PAGE]
        found = await client.lookup_transfers([id_bytes(number) for number in part])
        observed.transfers |= {number: _found(one) for number, one in zip(part, found.transfers, strict=True)}
    for account in accounts:
        observed.statements[account] = await _statement(client, account)
    balances = await _balances(client, accounts_total)
    observed.balances_minor = {account: balances[account] for account in accounts}
    observed.all_balances_minor = sum(balances.values())
    return observed


def _found(stored: ledger_pb2.StoredTransfer) -> Found:
    if stored.result.status == STATUS_NOT_FOUND:
        return Found(None)
    entry = stored.transfer
    return Found(
        stored.result.status, entry.debit_account, entry.credit_account, entry.amount_minor, stored.result.position
    )


async def _statement(client: Client, account: int) -> list[int]:
    ids: list[int] = []
    token = ""
    while True:
        page = await client.statement(
            ledger_pb2.GetStatementRequest(account_number=account, page_size=_PAGE, page_token=token)
        )
        ids += [int.from_bytes(stored.transfer.id, "big") for stored in page.transfers]
        token = page.next_page_token
        if not token:
            return ids


async def _balances(client: Client, accounts_total: int) -> dict[int, int]:
    balances: dict[int, int] = {}
    for first in range(1, accounts_total + 1, _PAGE):
        numbers = list(range(first, min(first + _PAGE, accounts_total + 1)))
        found = await client.lookup_accounts(ledger_pb2.LookupAccountsRequest(account_numbers=numbers))
        balances |= {account.account_number: account.balance_minor for account in found.accounts}
    return balances
