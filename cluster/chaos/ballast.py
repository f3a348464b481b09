"""What weighs a ledger down: transfers by the million between accounts of their own, stored by whole calls before or
during an ordeal. The checker does not follow them one by one; their money is counted, and every hash covers them."""

from __future__ import annotations

from collections.abc import Callable

from cluster.bench.people import run_with_client
from cluster.bench.wallets import make_wallets, store_transfers
from cluster.layout import Layout
from cluster.packed import IdSource

WALLETS = 1_000
Say = Callable[[str], None]


class Ballast:
    def __init__(self, layout: Layout, say: Say) -> None:
        self._layout, self._say = layout, say
        self._ids = IdSource()
        self.accounts: list[int] = []

    def store(self, count: int) -> None:
        """Returns when they are acknowledged; from any thread that has no event loop."""
        self._say(f"storing {count:,} transfers")
        if not self.accounts:
            self.accounts = run_with_client(
                self._layout, lambda client: make_wallets(client, WALLETS, self._ids, self._say)
            )
        run_with_client(
            self._layout, lambda client: store_transfers(client, self.accounts, count, self._ids, self._say)
        )
