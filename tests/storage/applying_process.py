"""A process that applies a fixed history as fast as it can, with a checkpoint every few entries, until it is killed.

Prints a line before each checkpoint that it starts: "applied durable"."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from node.ledger.records import TransferFlag
from node.storage.ledger_store import LedgerStore
from tests.ledger.building import KES, START_NS, command, commands_entry, transfer, transfers_entry
from tests.storage.stores import open_store, write

ACCOUNTS = 5
ENTRIES = 3_000
MAP_BYTES = 1 << 28
PENDING, POST = TransferFlag.PENDING, TransferFlag.POST


def entry(position: int) -> bytes:
    """The log entry at a position: always the same."""
    from kibubu.raft.v1 import raft_pb2

    if position == 1:
        new = [raft_pb2.CreateAccount(ledger=KES, kind=1, name=str(n)) for n in range(ACCOUNTS)]
        return commands_entry([command(n + 1, create_account=account) for n, account in enumerate(new)])
    if position % 11 == 0:
        return b""
    chance = random.Random(position)
    batch = []
    for k in range(12):
        number = position << 8 | k
        debit, credit = chance.sample(range(1, ACCOUNTS + 1), 2)
        kind = chance.random()
        if kind < 0.5:
            batch.append(transfer(number, debit, credit, chance.randint(1, 99)))
        elif kind < 0.75:
            batch.append(transfer(number, debit, credit, 5, flags=PENDING, timeout_s=chance.choice([0, 1, 9])))
        else:
            earlier = chance.randint(2, position) << 8 | chance.randrange(12)
            batch.append(transfer(number, flags=POST, pending_id=earlier))
    return transfers_entry(batch, START_NS + position * 50_000_000)


def catch_up(store: LedgerStore, last: int) -> None:
    while store.applied_position < last:
        write(store, entry(store.applied_position + 1))


def main() -> None:
    store = open_store(Path(sys.argv[1]), map_bytes=MAP_BYTES)
    sys.stdout.write(f"{store.applied_position} {store.durable_position}\n")
    while store.applied_position < ENTRIES:
        catch_up(store, store.applied_position + 3)
        sys.stdout.write(f"{store.applied_position} {store.durable_position}\n")
        sys.stdout.flush()
        store.checkpoint(wait=False)
    store.close()


if __name__ == "__main__":
    main()
