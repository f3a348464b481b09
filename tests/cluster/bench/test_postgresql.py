"""PostgreSQL for real: a primary, two synchronous standbys, the ledger's rules, and books that are checked."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cluster.bench import postgresql
from cluster.bench.feed import TransferFeed
from cluster.bench.meters import CLIENT, FOLLOWERS, LEADER, Meter
from cluster.bench.peer_run import PEER, PeerLoad, arguments, ratios
from cluster.bench.run import run_once
from cluster.bench.settings import Setting
from cluster.packages import ensure_packages
from tests.cluster.bench.conftest import Make

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
ACCOUNTS = 50


@pytest.fixture(scope="module")
def peer() -> Iterator[postgresql.Peer]:
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        said = ensure_packages({"postgres": "postgresql"})
        if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
            pytest.skip("; ".join(said))
    with tempfile.TemporaryDirectory(prefix="kibubu-peer-") as name:  # pytest keeps its own folders to its user alone
        folder = Path(name)
        folder.chmod(0o755)
        with postgresql.running(folder / "servers", ACCOUNTS, 2, lambda _: None) as running:
            yield running
        assert not (folder / "servers").exists()
    assert not any(server.process.is_running() for server in (running.primary, *running.standbys))


def verdicts(connection: psycopg.Connection[tuple[object, ...]], *transfers: tuple[uuid.UUID, int, int, int]) -> object:
    columns = [list(column) for column in zip(*transfers, strict=True)]
    row = connection.execute("SELECT make_transfers(%b, %b, %b, %b)", columns).fetchone()
    assert row is not None
    return row[0]


def test_both_standbys_have_a_transfer_before_the_reply(peer: postgresql.Peer) -> None:
    with psycopg.connect(peer.conninfo) as connection:
        states = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall()
        names = connection.execute("SHOW synchronous_standby_names").fetchone()
    assert states == [("quorum",), ("quorum",)]
    assert names == ("ANY 2 (standby1, standby2)",)
    with psycopg.connect(peer.conninfo, autocommit=True) as connection:
        transfer = uuid.uuid4()
        assert verdicts(connection, (transfer, 1, 2, 5)) == [0]
        place = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    for standby in peer.standbys:
        with psycopg.connect(f"host=127.0.0.1 port={standby.port} user=kibubu dbname=postgres") as copy:
            row = copy.execute("SELECT pg_last_wal_receive_lsn() >= %s::pg_lsn", place).fetchone()
        assert row == (True,)


def test_the_rules_are_the_ledgers(peer: postgresql.Peer) -> None:
    first, second, third = (uuid.uuid4() for _ in range(3))
    with psycopg.connect(peer.conninfo, autocommit=True) as connection:
        before = connection.execute("SELECT sum(debits_minor), sum(credits_minor) FROM accounts").fetchone()
        assert verdicts(connection, (first, 3, 4, 5), (first, 3, 4, 5)) == [0, 1]
        assert verdicts(connection, (first, 3, 4, 6)) == [1]
        assert verdicts(connection, (second, 3, 4, postgresql.OPENING_MINOR * 2), (third, 3, 999, 1)) == [2, 3]
        after = connection.execute("SELECT sum(debits_minor), sum(credits_minor) FROM accounts").fetchone()
        kept = connection.execute("SELECT count(*) FROM transfers WHERE id = ANY (%s)", ([second, third],)).fetchone()
    assert before is not None
    assert after == (before[0] + 5, before[1] + 5)
    assert kept == (0,)


async def test_the_load_is_measured_and_the_books_agree_with_what_was_told(peer: postgresql.Peer) -> None:
    load = await PeerLoad.connect(peer, Setting("transfers", 10, 3), ACCOUNTS)
    try:
        run = await run_once(load, Meter(peer.watched()), 0.3)
    finally:
        await load.close()
    assert run.tally.done > 0
    assert not run.tally.others
    assert run.tally.latencies.total == run.tally.done // 10
    assert run.cost.written_bytes > 0
    assert set(run.cost.cpu_s) >= {CLIENT, LEADER, FOLLOWERS}
    line = postgresql.check(peer, ACCOUNTS, run.tally.done)
    assert f"{ACCOUNTS} accounts" in line
    with pytest.raises(postgresql.PeerError, match="books are wrong"):
        postgresql.check(peer, ACCOUNTS, 10**9)
    with psycopg.connect(peer.conninfo, autocommit=True) as connection:
        connection.execute("UPDATE accounts SET credits_minor = credits_minor + 1 WHERE id = 1")
        with pytest.raises(postgresql.PeerError, match="books are wrong"):
            postgresql.check(peer, ACCOUNTS, 0)
        connection.execute("UPDATE accounts SET credits_minor = credits_minor - 1 WHERE id = 1")


def test_a_folder_without_postgresql_is_told(tmp_path: Path) -> None:
    assert postgresql._found(tmp_path) is None
    for version in ("9", "15", "old"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    assert postgresql._found(tmp_path) == tmp_path / "15" / "bin"


def test_the_peer_gets_the_same_transfers() -> None:
    ids, debits, credited, amounts = arguments(TransferFeed([1, 2, 3], 100).take())
    assert len({*ids}) == 100
    assert ids == sorted(ids)
    assert all(debit != credit for debit, credit in zip(debits, credited, strict=True))
    assert amounts == [1] * 100


def test_ratios_are_ours_by_theirs(measured: Make) -> None:
    setting = Setting("transfers", 1, 64)
    rows = [measured(setting, 400, 400, 400, latency_ms=1.0), measured(Setting(PEER, 1, 64), 200, 200, 200)]
    (ratio,) = ratios(rows)
    assert (ratio.per_second, ratio.cpu_us_each) == pytest.approx((2.0, 0.5))
    assert ratio.p50_ms == pytest.approx(0.5, rel=0.01)
    assert "kibubu / postgresql, transfers batch 1 clients 64: 2.00 of its speed" in ratio.line()
