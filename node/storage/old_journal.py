"""The journal of earlier versions, in an LMDB environment: read once, when a folder that has one is first opened.

It goes only when everything of it is durable in the new form, so a start that breaks off before begins anew.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lmdb

from node.storage.folder import Folder
from node.storage.groups import crc_of
from node.storage.log_errors import RaftLogCorruptError, RaftLogIdentityError
from node.storage.member import Member, MemberRecordError, decode_member

FILES = ("data.mdb", "lock.mdb")
_OWNER = "owner"  # the lock of the folder, held by the caller
_FORMAT = b"KBL1"
_KEY = struct.Struct(">Q")
_ENTRY = struct.Struct("<QI")
_STATE = struct.Struct("<QQQQI")
_NUMBERS_BYTES = 32


@dataclass(frozen=True, slots=True)
class OldJournal:
    env: lmdb.Environment
    term: int
    voted_for: str
    commit_index: int
    base_index: int
    base_term: int
    member: Member

    def entries(self) -> Iterator[tuple[int, bytes]]:
        index = self.base_index
        with self.env.begin(buffers=True) as txn, txn.cursor(db=self.env.open_db(b"entries", txn=txn)) as cursor:
            found = cursor.set_range(_KEY.pack(index + 1))
            while found:
                index += 1
                if _KEY.unpack(cursor.key())[0] != index:
                    raise RaftLogCorruptError(f"entry {index} is missing")
                term, crc = _ENTRY.unpack_from(cursor.value())
                data = bytes(cursor.value()[_ENTRY.size :])
                if crc_of(index, term, data) != crc:
                    raise RaftLogCorruptError(f"entry {index} does not fit its checksum")
                yield term, data
                found = cursor.next()

    def remove(self, folder: Folder) -> None:
        self.env.close()
        for name in FILES:
            if name in folder.names():
                folder.remove(name)
        folder.sync()


def find_old_journal(path: Path, folder: Folder, cluster_id: str, node_id: str) -> OldJournal | None:
    """None when there is none. What an adoption that broke off has left is removed."""
    names = folder.names()
    if FILES[0] not in names:
        return None
    env = lmdb.open(str(path), max_dbs=2, readonly=True, lock=False)
    with env.begin() as txn:
        meta = env.open_db(b"meta", txn=txn, create=False)
        identity, state, member = (txn.get(key, b"", db=meta) for key in (b"identity", b"state", b"member"))
    mine = b"\0".join((_FORMAT, cluster_id.encode(), node_id.encode()))
    if identity != mine:
        raise RaftLogIdentityError(f"{path} belongs to {identity!r}, this node is {mine!r}")
    for name in names:
        if name not in (*FILES, _OWNER):
            folder.remove(name)
    term, commit, base_index, base_term, voted_for = _decode_state(state)
    try:
        return OldJournal(env, term, voted_for, commit, base_index, base_term, decode_member(member))
    except MemberRecordError as error:
        raise RaftLogCorruptError(f"{path}: {error}") from error


def _decode_state(state: bytes) -> tuple[int, int, int, int, str]:
    if not state:
        return 0, 0, 0, 0, ""
    *numbers, crc = _STATE.unpack_from(state)
    vote = state[_STATE.size :]
    if zlib.crc32(state[:_NUMBERS_BYTES] + vote) != crc:
        raise RaftLogCorruptError("term, vote and commit do not fit their checksum")
    term, commit, base_index, base_term = numbers
    return term, commit, base_index, base_term, vote.decode()
