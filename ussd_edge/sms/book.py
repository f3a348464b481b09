"""The outbox's own memory, in one SQLite file: how far the feed was read, and which texts wait. Both change in one
transaction, so that no event is lost or made a text twice, whenever the process dies."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ussd_edge.sms.seam import Sms

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cursor (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), position INTEGER, offset INTEGER);
CREATE TABLE IF NOT EXISTS waiting (
    id TEXT PRIMARY KEY, msisdn TEXT NOT NULL, text TEXT NOT NULL, made_ns INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, due_ms INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_by_due ON waiting (due_ms, made_ns);
"""


class BookError(Exception):
    """The file cannot be opened, or another outbox has it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    sms: Sms
    attempts: int


class Book:
    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            path.chmod(0o600)  # it holds what people are told
        except (sqlite3.Error, OSError) as error:
            raise BookError(f"{path}: {error}") from error

    def close(self) -> None:
        self._db.close()

    @property
    def cursor(self) -> tuple[int, int] | None:
        """(position, offset) where reading goes on; None = never begun."""
        row = self._db.execute("SELECT position, offset FROM cursor").fetchone()
        return (row[0], row[1]) if row else None

    def take_in(self, position: int, offset: int, texts: Sequence[Sms]) -> None:
        """What was read up to there, and how far that is."""
        rows = [(sms.id, sms.msisdn, sms.text, sms.made_ns) for sms in texts]
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO waiting (id, msisdn, text, made_ns) VALUES (?, ?, ?, ?)", rows)
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", (position, offset))

    def due(self, now_ms: int, limit: int) -> list[Waiting]:
        rows = self._db.execute(
            "SELECT id, msisdn, text, made_ns, attempts FROM waiting WHERE due_ms <= ?"
            " ORDER BY due_ms, made_ns LIMIT ?",
            (now_ms, limit),
        )
        return [Waiting(Sms(*row[:4]), row[4]) for row in rows]

    def settle(self, done: Sequence[str], again: Sequence[tuple[str, int]]) -> None:
        """Ids that need no more, and ids with the time at which they are tried again."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM waiting WHERE id = ?", [(one,) for one in done])
            self._db.executemany(
                "UPDATE waiting SET attempts = attempts + 1, due_ms = ? WHERE id = ?",
                [(due, one) for one, due in again],
            )

    @property
    def waiting(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM waiting").fetchone()[0])

    @property
    def oldest_ns(self) -> int:
        """When the payment was made whose text waits longest; 0 = none waits."""
        return int(self._db.execute("SELECT coalesce(min(made_ns), 0) FROM waiting").fetchone()[0])
