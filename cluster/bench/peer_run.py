"""The same transfers on Kibubu and on PostgreSQL, repeat by repeat in turn, so that a disturbance meets both."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import psycopg
import uvloop

from cluster.bench import postgresql
from cluster.bench.feed import AMOUNT_MINOR, TransferFeed
from cluster.bench.load import CallLoad, Load, Tally, transfer_call
from cluster.bench.measured import Measured, Run, summary
from cluster.bench.meters import Meter
from cluster.bench.people import Size, make_people
from cluster.bench.reference import synced_records_per_second
from cluster.bench.run import ANSWER_S_MAX, CLIENT_DEADLINE_S, Pace, check_books, line_of, run_once
from cluster.bench.settings import TRANSFERS, Setting
from cluster.calls import operator_caller
from cluster.clients import operator_client
from cluster.health import find_leader
from cluster.layout import Layout
from kibubu_client.records import TRANSFER

PEER = "postgresql"
SETTINGS = (
    Setting(TRANSFERS, 1, 1),
    Setting(TRANSFERS, 1, 64),
    Setting(TRANSFERS, 10, 32),
    Setting(TRANSFERS, 100, 8),
    Setting(TRANSFERS, 1_000, 4),
)
_CALL = "SELECT make_transfers(%b, %b, %b, %b)"
Say = Callable[[str], None]
Connection = psycopg.AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Kibubu's figure divided by the peer's."""

    name: str
    per_second: float
    cpu_us_each: float
    p50_ms: float
    p99_ms: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"kibubu / {PEER}, {self.name}: {self.per_second:.2f} of its speed, "
            f"{self.cpu_us_each:.2f} of its CPU each, p50 {self.p50_ms:.2f}, p99 {self.p99_ms:.2f}"
        )


def ratios(rows: list[Measured]) -> list[Ratio]:
    """Of rows in pairs, Kibubu's first."""
    found = []
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        own, other = ours.figures(), theirs.figures()
        found.append(Ratio(ours.setting.name, **{name: own[name] / other[name] for name in own}))
    return found


def measure(layout: Layout, wanted: list[Setting], pace: Pace, accounts: int, acks: int, say: Say) -> list[Measured]:
    """Pairs of rows. Raises PeerError, or WrongBooksError when Kibubu's books are not right afterwards."""
    rows: list[Measured] = []
    told = 0
    with (
        postgresql.running(layout.home / "peer", accounts, acks, say) as peer,
        operator_caller(layout, deadline_s=60) as caller,
    ):
        say(f"{PEER} {peer.version}: a primary, {len(peer.standbys)} standbys, {acks} of them synced before a reply")
        numbers = make_people(layout, caller, wanted, Size(accounts), say).accounts
        for setting in wanted:
            pair = _Pair(layout, find_leader(caller, layout), peer, setting, numbers, accounts)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runs = runner.run(pair.repeats(pace))
            for what, part in ((setting, runs[0]), (replace(setting, what=PEER), runs[1])):
                reference = synced_records_per_second(layout.home, setting.batch)
                rows.append(summary(what, part, reference, os.getloadavg()[0]))
                say(line_of(rows[-1]))
            told += sum(run.tally.done for run in runs[1])
        check_books(layout, caller, say)
        say(postgresql.check(peer, accounts, told))
    return rows


class _Pair:
    def __init__(
        self, layout: Layout, leader_id: str, peer: postgresql.Peer, setting: Setting, numbers: list[int], accounts: int
    ) -> None:
        self._layout, self._leader_id, self._peer = layout, leader_id, peer
        self._setting, self._numbers, self._accounts = setting, numbers, accounts

    async def repeats(self, pace: Pace) -> tuple[list[Run], list[Run]]:
        setting = self._setting
        theirs = await PeerLoad.connect(self._peer, setting, self._accounts)
        try:
            async with operator_client(self._layout, deadline_s=CLIENT_DEADLINE_S) as client:
                feed = TransferFeed(self._numbers, setting.batch)
                ours: Load = CallLoad(transfer_call(client, setting, feed), setting.clients)
                runs: tuple[list[Run], list[Run]] = ([], [])
                for load in (ours, theirs):
                    async with asyncio.timeout(pace.warm_up_s + ANSWER_S_MAX):
                        await load.run(pace.warm_up_s)
                for _ in range(pace.repeats):
                    meter = Meter.of_cluster(self._layout, self._leader_id)
                    runs[0].append(await run_once(ours, meter, pace.seconds))
                    runs[1].append(await run_once(theirs, Meter(self._peer.watched()), pace.seconds))
                return runs
        finally:
            await theirs.close()


class PeerLoad:
    """One connection for each caller, each call one prepared statement and one transaction."""

    def __init__(self, connections: list[Connection], loads: list[CallLoad]) -> None:
        self._connections = connections
        self._loads = loads

    @classmethod
    async def connect(cls, peer: postgresql.Peer, setting: Setting, accounts: int) -> PeerLoad:
        feed = TransferFeed(list(range(1, accounts + 1)), setting.batch)
        connections: list[Connection] = []
        for _ in range(setting.clients):
            connection = await psycopg.AsyncConnection.connect(peer.conninfo, autocommit=True)
            connections.append(connection)
        return cls(connections, [CallLoad(peer_call(connection, feed), 1) for connection in connections])

    async def run(self, seconds: float) -> Tally:
        total = Tally()
        for part in await asyncio.gather(*(load.run(seconds) for load in self._loads)):
            total.done += part.done
            total.others.update(part.others)
            total.latencies.add_counts(part.latencies.nonzero())
        return total

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


def arguments(packed: bytes) -> tuple[list[uuid.UUID], list[int], list[int], list[int]]:
    records = np.frombuffer(packed, TRANSFER)
    pairs = zip(records["id_hi"].tolist(), records["id_lo"].tolist(), strict=True)
    ids = [uuid.UUID(int=high << 64 | low) for high, low in pairs]
    return ids, records["debit_account"].tolist(), records["credit_account"].tolist(), [AMOUNT_MINOR] * len(ids)


def peer_call(connection: Connection, feed: TransferFeed) -> Callable[[Counter[str]], Any]:
    cursor = connection.cursor(binary=True)

    async def call(others: Counter[str]) -> int:
        await cursor.execute(_CALL, arguments(feed.take()), prepare=True)
        row = await cursor.fetchone()
        verdicts = row[0] if row else []
        done = int(verdicts.count(0))
        if done < len(verdicts):
            others["refused"] += len(verdicts) - done
        return done

    return call
