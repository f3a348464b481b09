"""PostgreSQL as the measure of Kibubu: a primary and two synchronous standbys on loopback, in a folder of their own,
with a double-entry ledger of the same rules: unique ids, no overdraft, a verdict for each transfer, one transaction for
each call. Installed from Debian when missing; run by an unprivileged user, since PostgreSQL refuses root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from cluster.bench.meters import FOLLOWERS, LEADER
from cluster.layout import LOOPBACK, free_port_base
from cluster.packages import ensure_packages
from cluster.processes import kill_group, log_tail, wait_ended

DATABASE = "postgres"
SUPERUSER = "kibubu"
STANDBYS = ("standby1", "standby2")
OPENING_MINOR = 100_000_000
_USERS = ("postgres", "nobody")  # when this is root: the first that exists
_PROGRAMS = Path("/usr/lib/postgresql")  # Debian keeps them out of the path
_COMMAND_TIMEOUT_S = 120.0
_READY_TIMEOUT_S = 60.0
_STOP_GRACE_S = 20.0
_POLL_S = 0.1
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 512MB
wal_level = replica
max_wal_senders = 10
max_wal_size = 4GB
hot_standby = on
fsync = on
full_page_writes = on
synchronous_commit = on
"""
_SCHEMA = """
CREATE TABLE accounts (
    id bigint PRIMARY KEY,
    debits_minor bigint NOT NULL DEFAULT 0,
    credits_minor bigint NOT NULL DEFAULT 0,
    CHECK (credits_minor >= debits_minor)
) WITH (fillfactor = 50);
CREATE TABLE transfers (
    id uuid PRIMARY KEY,
    debit_account bigint NOT NULL,
    credit_account bigint NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    code int NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- A verdict for each: 0 done, 1 id used before, 2 not enough money, 3 no such account. Rows are locked in the order of
-- their numbers first, so that calls never wait for each other in a circle.
CREATE FUNCTION make_transfers(ids uuid[], debits bigint[], credits bigint[], amounts bigint[]) RETURNS int[] AS $$
DECLARE
    verdicts int[] := '{}';
    verdict int;
BEGIN
    PERFORM 1 FROM accounts WHERE id = ANY (debits || credits) ORDER BY id FOR NO KEY UPDATE;
    FOR i IN 1 .. cardinality(ids) LOOP
        verdict := 0;
        INSERT INTO transfers (id, debit_account, credit_account, amount_minor, code)
            VALUES (ids[i], debits[i], credits[i], amounts[i], 1002) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            verdict := 1;
        ELSE
            UPDATE accounts SET debits_minor = debits_minor + amounts[i]
                WHERE id = debits[i] AND credits_minor - debits_minor >= amounts[i];
            IF NOT FOUND THEN
                verdict := 2;
            ELSE
                UPDATE accounts SET credits_minor = credits_minor + amounts[i] WHERE id = credits[i];
                IF NOT FOUND THEN
                    UPDATE accounts SET debits_minor = debits_minor - amounts[i] WHERE id = debits[i];
                    verdict := 3;
                END IF;
            END IF;
            IF verdict > 0 THEN
                DELETE FROM transfers WHERE id = ids[i];
            END IF;
        END IF;
        verdicts := verdicts || verdict;
    END LOOP;
    RETURN verdicts;
END $$ LANGUAGE plpgsql;
"""
Say = Callable[[str], None]


class PeerError(Exception):
    """PostgreSQL is not there, cannot be set up, or its ledger is wrong; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    port: int
    process: psutil.Process


@dataclass(frozen=True, slots=True)
class Peer:
    primary: Server
    standbys: tuple[Server, ...]
    version: str

    @property
    def conninfo(self) -> str:
        return _conninfo(self.primary.port)

    def watched(self) -> list[tuple[str, psutil.Process]]:
        """(role, process) of every process of the three servers, as they are now."""
        servers = [(LEADER, self.primary), *((FOLLOWERS, standby) for standby in self.standbys)]
        return [
            (role, process)
            for role, server in servers
            for process in [server.process, *server.process.children(recursive=True)]
        ]


def programs(say: Say, root: Path = _PROGRAMS) -> Path:
    """The folder of initdb and postgres, newest version first. Raises PeerError when it cannot be had."""
    if not _found(root):
        for line in ensure_packages({"postgres": "postgresql"}):
            say(line)
    found = _found(root)
    if found is None:
        raise PeerError("PostgreSQL is not installed, and this is not root with apt: install Debian's postgresql")
    return found


def _found(root: Path) -> Path | None:
    versions = [path.parent.parent for path in root.glob("*/bin/initdb") if path.parent.parent.name.isdecimal()]
    return max(versions, key=lambda path: int(path.name)) / "bin" if versions else None


def unprivileged_user() -> str | None:
    """Whom the servers run as; None = as this user, who is not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _USERS:
        if name in known:
            return name
    raise PeerError(f"PostgreSQL refuses root, and there is no user {' or '.join(_USERS)} to run it as")


@contextmanager
def running(folder: Path, accounts: int, acks: int, say: Say) -> Iterator[Peer]:
    """The three servers with `accounts` accounts numbered from 1; `acks` standbys have synced before a reply. All is
    gone afterwards. Raises PeerError."""
    servers = _Servers(folder, programs(say), unprivileged_user())
    try:
        yield servers.up(accounts, acks)
    except psycopg.Error as error:
        raise PeerError(f"PostgreSQL: {error}") from error
    finally:
        servers.down()


class _Servers:
    def __init__(self, folder: Path, bin_folder: Path, user: str | None) -> None:
        self._folder = folder
        self._bin = bin_folder
        self._user = user
        self._started: list[Server] = []
        self._port_base = free_port_base()

    def up(self, accounts: int, acks: int) -> Peer:
        self._folder.mkdir(parents=True, mode=0o700)
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        data = str(self._folder / "primary")
        self._run("initdb", "-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C")
        with (self._folder / "primary" / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(_SETTINGS)
        primary = self._start("primary", self._port_base)
        standbys = tuple(self._add_standby(name, primary.port, at) for at, name in enumerate(STANDBYS, start=1))
        with psycopg.connect(_conninfo(primary.port), autocommit=True) as connection:
            names = ", ".join(STANDBYS)
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = 'ANY {int(acks)} ({names})'")
            connection.execute("SELECT pg_reload_conf()")
            _wait(lambda: _synced(connection) == len(STANDBYS), "both standbys follow in step")
            connection.execute(_SCHEMA)
            connection.execute(
                "INSERT INTO accounts (id, credits_minor) SELECT n, %s FROM generate_series(1, %s) n",
                (OPENING_MINOR, accounts),
            )
            connection.execute("VACUUM ANALYZE")
            version = str(connection.info.server_version // 10_000)
        return Peer(primary, standbys, version)

    def _add_standby(self, name: str, primary_port: int, at: int) -> Server:
        source = f"{_conninfo(primary_port)} application_name={name}"
        self._run("pg_basebackup", "-D", str(self._folder / name), "-d", source, "-R", "-X", "stream", "-c", "fast")
        return self._start(name, self._port_base + at)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        try:
            done = subprocess.run(
                command, cwd=self._folder, user=self._user, extra_groups=self._groups(), capture_output=True, text=True,
                timeout=_COMMAND_TIMEOUT_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise PeerError(
                f"{program} cannot be run in {self._folder} as {self._user or 'this user'}: {error}; "
                "KIBUBU_HOME must name a folder that this user may reach"
            ) from error
        if done.returncode:
            raise PeerError(f"{program}: {done.stderr.strip()}")

    def _groups(self) -> list[int] | None:
        return [] if self._user is not None else None

    def _start(self, name: str, port: int) -> Server:
        log_file = self._folder / f"{name}.log"
        with log_file.open("ab") as log:
            child = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._folder / name), "-p", str(port)],
                cwd=self._folder, user=self._user, extra_groups=self._groups(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        server = Server(name, port, psutil.Process(child.pid))
        child.returncode = 0  # it is watched and ended by its psutil.Process
        self._started.append(server)
        _wait(lambda: _answers(server, log_file), f"{name} answers")
        return server

    def down(self) -> None:
        """A fast shutdown, standbys first; what does not end is killed."""
        for server in reversed(self._started):
            try:
                server.process.send_signal(signal.SIGINT)
            except psutil.NoSuchProcess:
                continue
            if not wait_ended(server.process, _STOP_GRACE_S):
                kill_group(server.process)
                wait_ended(server.process, _STOP_GRACE_S)
        shutil.rmtree(self._folder, ignore_errors=True)


def _conninfo(port: int) -> str:
    return f"host={LOOPBACK} port={port} user={SUPERUSER} dbname={DATABASE}"


def _answers(server: Server, log_file: Path) -> bool:
    if wait_ended(server.process, 0):
        raise PeerError(f"{server.name} ended:\n{log_tail(log_file)}")
    try:
        psycopg.connect(_conninfo(server.port), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _synced(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"
    row = connection.execute(query).fetchone()
    return int(str(row[0])) if row else 0


def _wait(is_so: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + _READY_TIMEOUT_S
    while not is_so():
        if time.monotonic() > end_s:
            raise PeerError(f"PostgreSQL: waited {_READY_TIMEOUT_S:g} s in vain until {what}")
        time.sleep(_POLL_S)


def check(peer: Peer, accounts: int, done: int) -> str:
    """A line that says that its books are right: the sums, and as many transfers as were told to be done. Raises
    PeerError."""
    with psycopg.connect(peer.conninfo) as connection:
        row = connection.execute(
            "SELECT sum(debits_minor)::bigint, sum(credits_minor)::bigint, (SELECT count(*) FROM transfers), "
            "(SELECT coalesce(sum(amount_minor), 0)::bigint FROM transfers) FROM accounts"
        ).fetchone()
    if row is None:
        raise PeerError("PostgreSQL: there are no accounts")
    debited, credited, count, moved = (int(value) for value in row)
    if debited != moved or credited != moved + accounts * OPENING_MINOR or count < done:
        raise PeerError(
            f"PostgreSQL's books are wrong: debits {debited}, credits {credited}, {count} transfers of {moved}, "
            f"{done} were told to be done"
        )
    return f"postgresql {peer.version}: {count:,} transfers, {accounts:,} accounts, debits and credits agree with them"
