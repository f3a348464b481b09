"""The people and accounts that a measurement moves money between, and what the ledger holds before it begins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import uvloop

from cluster.bench.load import Payers
from cluster.bench.settings import ACCOUNTS, CUSTOMERS, PAYMENTS, USSD, Setting
from cluster.bench.wallets import make_wallets, store_transfers
from cluster.calls import Caller
from cluster.clients import operator_client
from cluster.demo import DEMO_PIN, DemoAccount, create_accounts
from cluster.layout import Layout
from cluster.packed import IdSource
from cluster.vocabulary import AccountKind
from kibubu_client import Client

FILL_DEADLINE_S = 60.0
_CHUNK = 500
_OPENING_MINOR = 100_000_000
Say = Callable[[str], None]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Size:
    """Of the ledger: its accounts, and the numbers of stored transfers at which everything is measured."""

    accounts: int = ACCOUNTS
    stored: tuple[int, ...] = (0,)
    customers: int = CUSTOMERS


@dataclass(slots=True)
class People:
    accounts: list[int]
    payers: Payers | None  # shared by all settings with payments, so that its turns go on
    ids: IdSource
    stored: int = 0


def make_people(layout: Layout, caller: Caller, wanted: list[Setting], size: Size, say: Say) -> People:
    ids = IdSource()
    numbers = run_with_client(layout, lambda client: make_wallets(client, size.accounts, ids, say))
    pays = any(setting.what in (PAYMENTS, USSD) for setting in wanted)
    return People(numbers, Payers(make_customers(caller, size.customers)) if pays else None, ids)


def fill(layout: Layout, people: People, stored: int, say: Say) -> None:
    """Stores transfers until this many were put in; what was measured before comes on top."""
    missing = stored - people.stored
    if missing > 0:
        run_with_client(layout, lambda client: store_transfers(client, people.accounts, missing, people.ids, say))
        people.stored = stored


def run_with_client(layout: Layout, work: Callable[[Client], Awaitable[Answer]]) -> Answer:
    async def whole() -> Answer:
        async with operator_client(layout, deadline_s=FILL_DEADLINE_S) as client:
            return await work(client)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


def make_customers(caller: Caller, count: int) -> list[str]:
    """Customers with phone number and PIN; their MSISDNs."""
    msisdns = [f"2547110{number:05d}" for number in range(count)]
    people = [
        DemoAccount(f"Customer {m[-5:]}", "msisdn", m, AccountKind.CUSTOMER, pin=DEMO_PIN, opening_minor=_OPENING_MINOR)
        for m in msisdns
    ]
    for chunk in _chunks(people):
        create_accounts(caller, chunk)
    return msisdns


def _chunks(accounts: list[DemoAccount]) -> Iterator[list[DemoAccount]]:
    for at in range(0, len(accounts), _CHUNK):
        yield accounts[at : at + _CHUNK]
