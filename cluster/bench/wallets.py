"""Accounts and stored transfers by the million, the fast way: whole calls, several under way, packed transfers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
from kibubu.ledger.v1 import ledger_pb2

from cluster.accounts import LEDGER_KES
from cluster.bench.feed import TransferFeed
from cluster.demo import ISSUANCE, SeedError
from cluster.ids import fixed_id
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_ISSUE, COMMAND_EXISTS, COMMAND_OK, DEBITS_MUST_NOT_EXCEED_CREDITS, AccountKind
from kibubu_client import Client

OPENING_MINOR = 100_000_000
ACCOUNTS_IN_CALL = 500
TRANSFERS_IN_CALL = 8_000
CALLS_IN_FLIGHT = 4
SAY_EVERY = 5_000_000
Say = Callable[[str], None]


async def make_wallets(client: Client, count: int, ids: IdSource, say: Say, *, first: int = 0) -> list[int]:
    """`count` wallets with a large balance and no PIN, numbered from `first`; their account numbers in order."""
    issuance = await _issuance(client)
    numbers = np.zeros(count, dtype=np.uint64)

    async def create(at: int) -> None:
        until = min(at + ACCOUNTS_IN_CALL, count)
        request = ledger_pb2.CreateAccountsRequest(accounts=[_wallet(first + number) for number in range(at, until)])
        answer = await client.create_accounts(request)
        wrong = {one.status_name for one in answer.results if one.status not in (COMMAND_OK, COMMAND_EXISTS)}
        if wrong:
            raise SeedError(f"wallets: {', '.join(sorted(wrong))}")
        numbers[at:until] = [one.account_number for one in answer.results]

    async def open_with_money(at: int) -> None:
        credit = numbers[at : at + TRANSFERS_IN_CALL]
        form = template(len(credit), amount_minor=OPENING_MINOR, ledger=LEDGER_KES, code=CODE_ISSUE)
        debit = np.full(len(credit), issuance, dtype=np.uint64)
        await _all_ok(client, fresh_batch(form, ids, debit, credit).tobytes())

    await _spread(create, range(0, count, ACCOUNTS_IN_CALL), say, ACCOUNTS_IN_CALL, "accounts made")
    await _spread(open_with_money, range(0, count, TRANSFERS_IN_CALL), say, TRANSFERS_IN_CALL, "accounts opened")
    return [int(number) for number in numbers]


def _wallet(number: int) -> ledger_pb2.NewAccount:
    return ledger_pb2.NewAccount(
        request_id=fixed_id(f"wallet {number}"),
        ledger=LEDGER_KES,
        kind=int(AccountKind.CUSTOMER),
        flags=DEBITS_MUST_NOT_EXCEED_CREDITS,
        name=f"Wallet {number}",
        handles=[ledger_pb2.Handle(key="walletid", value=f"bench-{number}")],
    )


async def store_transfers(client: Client, accounts: list[int], count: int, ids: IdSource, say: Say) -> None:
    """`count` transfers between random accounts, rounded up to whole calls. Raises SeedError when one is refused."""
    feed = TransferFeed(accounts, TRANSFERS_IN_CALL, seed=2, ids=ids)

    async def store(_: int) -> None:
        await _all_ok(client, feed.take())

    await _spread(store, range(0, count, TRANSFERS_IN_CALL), say, TRANSFERS_IN_CALL, "transfers stored")


async def _all_ok(client: Client, packed: bytes) -> None:
    replies = await client.create_transfers(packed)
    if replies["status"].any():
        raise SeedError(f"{int(np.count_nonzero(replies['status']))} transfers that fill the ledger were refused")


async def _issuance(client: Client) -> int:
    handle = ledger_pb2.Handle(key="system", value=ISSUANCE)
    found = await client.lookup_accounts(ledger_pb2.LookupAccountsRequest(handles=[handle]))
    if not found.accounts[0].account_number:
        raise SeedError("there is no issuance account; `kibubu up` makes it")
    return int(found.accounts[0].account_number)


async def _spread(work: Callable[[int], Awaitable[None]], starts: range, say: Say, size: int, what: str) -> None:
    """A few workers share the starts; the first failure ends all of them."""
    remaining, finished = iter(starts), 0

    async def worker() -> None:
        nonlocal finished
        for at in remaining:
            await work(at)
            before, finished = finished, finished + size
            if finished // SAY_EVERY > before // SAY_EVERY:
                say(f"{finished:,} {what}")

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLS_IN_FLIGHT):
            group.create_task(worker())
