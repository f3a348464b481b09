"""The accounts that a measurement moves money between."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.bench.settings import ACCOUNTS, CUSTOMERS
from cluster.calls import Caller
from cluster.demo import DEMO_PIN, DemoAccount, create_accounts
from cluster.vocabulary import AccountKind

_CHUNK = 500
_OPENING_MINOR = 100_000_000


def make_accounts(caller: Caller, count: int = ACCOUNTS) -> list[int]:
    """Wallets with a large balance and no PIN; their account numbers."""
    wallets = [
        DemoAccount(
            f"Wallet {number}", "walletid", f"bench-{number}", AccountKind.CUSTOMER, opening_minor=_OPENING_MINOR
        )
        for number in range(count)
    ]
    numbers: list[int] = []
    for chunk in _chunks(wallets):
        numbers += create_accounts(caller, chunk).values()
    return numbers


def make_customers(caller: Caller, count: int = CUSTOMERS) -> list[str]:
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
