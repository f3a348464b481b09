"""The Raft journal: entries, term, vote and commit in an LMDB environment of its own, one synced transaction per flush.

Appending, truncating, compacting and voting between two sync() calls become durable together or not at all. The newest
entries stay in memory, bounded in bytes; older ones are read back from LMDB. Every entry carries a checksum over its
index, term and bytes, checked when the journal is opened and whenever an entry is read back.
"""

from __future__ import annotations

import bisect
import struct
import zlib
from pathlib import Path
from typing import Any

from node.storage.host import SYSTEM_HOST, FolderInUseError, Host
from node.storage.member import Member, MemberRecordError, decode_member, encode_member

FORMAT = b"KBL1"
MEMORY_BYTES_MAX = 64 << 20
MAP_BYTES = 12 << 30  # sparse; three times the bound at which the engine stops admitting (4 GiB)
COMPACTED_PER_SYNC_MAX = 2_048
_KEY = struct.Struct(">Q")
_ENTRY = struct.Struct("<QI")  # term, crc32
_STATE = struct.Struct("<QQQQI")  # term, commit, base index, base term, crc32; then the vote
_NUMBERS = struct.Struct("<QQQQ")
_CHECKED = struct.Struct("<QQ")
_PAGE = 4_096
_INLINE_BYTES_MAX = 2_000  # LMDB gives larger values pages of their own


class RaftLogError(Exception):
    """The journal cannot be used; the message says why."""


class RaftLogIdentityError(RaftLogError):
    """The folder belongs to another cluster or node."""


class RaftLogCorruptError(RaftLogError):
    """Bytes on disk are not what was written."""


class RaftLog:
    """Owned by one thread. After a failed sync every further call refuses: what is on disk is unknown."""

    def __init__(
        self,
        path: Path,
        *,
        cluster_id: str,
        node_id: str,
        map_bytes: int = MAP_BYTES,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
        host: Host = SYSTEM_HOST,
        joins: bool = False,
    ) -> None:
        """`joins`: a journal that is made now is of a lost member, which must not vote before it has caught up."""
        self.term, self.voted_for, self.commit_index = 0, "", 0
        self.base_index, self._base_term = 0, 0
        self.last_index = self.durable_index = 0
        self._run_starts: list[int] = []  # where each run of entries of one term starts
        self._run_terms: list[int] = []
        self._memory: dict[int, tuple[int, bytes]] = {}
        self._memory_first = 1
        self._memory_bytes = 0
        self._memory_bytes_max = memory_bytes_max
        self._disk_first = 1  # lowest entry still on disk; compaction deletes a bounded number per sync
        self._disk_last = 0
        self._truncate_first = 0  # 0 = nothing to truncate on disk
        self.bytes_total = 0
        self.member = Member()
        self._member_dirty = False
        self._dirty = False
        self._failed = False
        try:
            self._disown = host.own_folder(path)
        except FolderInUseError as error:
            raise RaftLogError(str(error)) from error
        self._env = host.open_environment(path, map_bytes=map_bytes, max_dbs=2)
        self._entries = self._env.open_db(b"entries")
        self._meta = self._env.open_db(b"meta")
        try:
            self._check_identity(FORMAT + b"\0" + cluster_id.encode() + b"\0" + node_id.encode(), path, joins=joins)
            self._load()
        except BaseException:
            self._release()
            raise

    @property
    def last_term(self) -> int:
        return self._run_terms[-1] if self._run_terms else self._base_term

    @property
    def dirty(self) -> bool:
        return self._dirty

    def term_at(self, index: int) -> int | None:
        if index == self.base_index:
            return self._base_term
        if not self.base_index < index <= self.last_index:
            return None
        return self._run_terms[bisect.bisect_right(self._run_starts, index) - 1]

    def first_index_of_term(self, index: int) -> int:
        if not self.base_index < index <= self.last_index:
            return index
        return self._run_starts[bisect.bisect_right(self._run_starts, index) - 1]

    def read(self, first: int, count_max: int, bytes_max: int) -> list[tuple[int, bytes]]:
        if first <= self.base_index:
            raise RaftLogError(f"entry {first} was compacted away; the journal starts behind {self.base_index}")
        entries: list[tuple[int, bytes]] = []
        last = min(self.last_index, first + count_max - 1)
        if first < self._memory_first:
            bytes_max -= self._read_disk(entries, first, min(last, self._memory_first - 1), bytes_max)
        for index in range(first + len(entries), last + 1):
            if index < self._memory_first:
                break  # the disk part filled the batch
            entry = self._memory[index]
            bytes_max -= len(entry[1])
            if bytes_max < 0 and entries:
                break
            entries.append(entry)
        return entries

    def append(self, term: int, data: bytes) -> int:
        if not self.last_term <= term <= self.term:
            raise RaftLogError(f"an entry of term {term} cannot follow term {self.last_term} in term {self.term}")
        self.last_index += 1
        self._count_term(self.last_index, term)
        self._memory[self.last_index] = (term, data)
        self._memory_bytes += len(data)
        self.bytes_total += _bytes_on_disk(len(data))
        self._dirty = True
        return self.last_index

    def truncate(self, first: int) -> None:
        if not self.base_index < first <= self.last_index:
            raise RaftLogError(f"cannot truncate from {first}: entries are {self.base_index + 1} to {self.last_index}")
        for index in range(max(first, self._memory_first), self.last_index + 1):
            data = self._memory.pop(index)[1]
            self._memory_bytes -= len(data)
            if index > self._disk_last:
                self.bytes_total -= _bytes_on_disk(len(data))
        self._memory_first = min(self._memory_first, first)
        while self._run_starts and self._run_starts[-1] >= first:
            self._run_starts.pop()
            self._run_terms.pop()
        self.last_index = first - 1
        self.durable_index = min(self.durable_index, self.last_index)
        if first <= self._disk_last:
            self._truncate_first = min(self._truncate_first or first, first)
        self._dirty = True

    def set_term(self, term: int, voted_for: str) -> None:
        if term < self.term:
            raise RaftLogError(f"term cannot go back from {self.term} to {term}")
        self.term, self.voted_for = term, voted_for
        self._dirty = True

    def set_commit(self, index: int) -> None:
        """Written with the next sync that happens anyway: after a crash it is learned again from the leader."""
        self.commit_index = index

    def set_member(self, member: Member) -> None:
        self.member = member
        self._member_dirty = self._dirty = True

    def install(self, position: int, term: int) -> None:
        """The state at `position` came from another node and is durable here: the log goes on behind it. What is known
        to follow that very entry stays, for it may have been acknowledged."""
        if position <= self.base_index:
            return
        self.commit_index = max(self.commit_index, position)
        if self.term_at(position) == term:
            self.compact(position)
        else:
            if self.last_index > self.base_index:
                self.truncate(self.base_index + 1)
            self._truncate_first, self._disk_first = self._disk_first, position + 1
            self.base_index = self.last_index = self.durable_index = position
            self._base_term, self.term = term, max(self.term, term)
            self._memory_first = position + 1
            self._dirty = True
        self.sync()

    def compact(self, index: int) -> None:
        """Forget entries up to `index`; the caller has checked that nobody needs them."""
        index = min(index, self.durable_index, self.commit_index)
        if index <= self.base_index:
            return
        term = self.term_at(index)
        if term is None:
            raise RaftLogError(f"entry {index} to compact up to is missing")
        keep = bisect.bisect_right(self._run_starts, index) - 1
        del self._run_starts[:keep], self._run_terms[:keep]
        self._run_starts[0] = index + 1
        if index == self.last_index:
            self._run_starts.clear()
            self._run_terms.clear()
        self.base_index, self._base_term = index, term
        self._shrink_memory(max(index + 1, self._memory_first))
        self._dirty = True

    def sync(self) -> None:
        """Returns when everything so far is on disk. Any error means that the node must stop."""
        if self._failed:
            raise RaftLogError("an earlier sync failed: what is on disk is unknown")
        if not self._dirty:
            return
        self._failed = True
        with self._env.begin(write=True) as txn:
            self._write(txn)
        self._failed = self._member_dirty = False
        self._disk_last = self.durable_index = self.last_index
        self._truncate_first = 0
        self._dirty = self._disk_first <= self.base_index
        while self._memory_bytes > self._memory_bytes_max and self._memory_first < self.last_index:
            self._shrink_memory(self._memory_first + 1)

    def close(self) -> None:
        """Closes without a further sync: what was not synced was promised to nobody."""
        self._release()

    def _write(self, txn: Any) -> None:
        if self._truncate_first:
            self._delete(txn, self._truncate_first, self._disk_last)
        if self._disk_first <= self.base_index:
            upto = min(self.base_index, self._disk_first + COMPACTED_PER_SYNC_MAX - 1)
            self._delete(txn, self._disk_first, upto)
            self._disk_first = upto + 1
        for index in range(self.durable_index + 1, self.last_index + 1):
            term, data = self._memory[index]
            value = b"".join((_ENTRY.pack(term, _crc(index, term, data)), data))
            if not txn.put(_KEY.pack(index), value, db=self._entries, append=True):
                raise RaftLogCorruptError(f"entry {index} is already on disk")
        txn.put(b"state", self._encode_state(), db=self._meta)
        if self._member_dirty:
            txn.put(b"member", encode_member(self.member), db=self._meta)

    def _delete(self, txn: Any, first: int, last: int) -> None:
        with txn.cursor(db=self._entries) as cursor:
            if not cursor.set_range(_KEY.pack(first)):
                return
            while True:
                key = cursor.key()
                if not key or _KEY.unpack(key)[0] > last:
                    return
                self.bytes_total -= _bytes_on_disk(len(cursor.value()) - _ENTRY.size)
                cursor.delete()

    def _read_disk(self, entries: list[tuple[int, bytes]], first: int, last: int, bytes_max: int) -> int:
        total = 0
        with self._env.begin(buffers=True) as txn, txn.cursor(db=self._entries) as cursor:
            cursor.set_key(_KEY.pack(first))
            for index in range(first, last + 1):
                entry = _decode_entry(index, cursor.key(), cursor.value())
                total += len(entry[1])
                if total > bytes_max and entries:
                    return bytes_max + 1  # full: nothing from memory may follow
                entries.append(entry)
                cursor.next()
        return total

    def map_room(self) -> int:
        """Bytes that the journal's file may still grow."""
        info = self._env.info()
        return int(info["map_size"] - (info["last_pgno"] + 1) * _PAGE)

    def check(self, first: int, bytes_max: int) -> tuple[int, int]:
        """Check what is stored from `first` on, from any thread: (where to go on, 0 = nowhere; bytes read)."""
        size = 0
        with self._env.begin(buffers=True) as txn, txn.cursor(db=self._entries) as cursor:
            found = cursor.set_range(_KEY.pack(first))
            while found:
                key, value = cursor.item()
                if txn.get(key, db=self._entries) != value:
                    raise RaftLogCorruptError(f"entry {bytes(key).hex()} is not found by its key")
                index = _KEY.unpack(key)[0]
                _decode_entry(index, key, value)
                size += len(value)
                if size >= bytes_max:
                    return index + 1, size
                found = cursor.next()
        return 0, size

    def _count_term(self, index: int, term: int) -> None:
        if not self._run_terms or self._run_terms[-1] != term:
            self._run_starts.append(index)
            self._run_terms.append(term)

    def _shrink_memory(self, first: int) -> None:
        for index in range(self._memory_first, min(first, self.last_index + 1)):
            self._memory_bytes -= len(self._memory.pop(index)[1])
        self._memory_first = first

    def _encode_state(self) -> bytes:
        vote = self.voted_for.encode()
        numbers = (self.term, self.commit_index, self.base_index, self._base_term)
        return _STATE.pack(*numbers, zlib.crc32(_NUMBERS.pack(*numbers) + vote)) + vote

    def _check_identity(self, identity: bytes, path: Path, *, joins: bool) -> None:
        """Also counts this start, in the same transaction."""
        with self._env.begin(write=True) as txn:
            stored = txn.get(b"identity", db=self._meta)
            if stored is not None and bytes(stored) != identity:
                raise RaftLogIdentityError(f"{path} belongs to {bytes(stored)!r}, this node is {identity!r}")
            if stored is None:
                txn.put(b"identity", identity, db=self._meta)
                self.member = Member(voter=not joins)
            member = txn.get(b"member", db=self._meta)
            if member is not None:
                try:
                    self.member = decode_member(bytes(member))
                except MemberRecordError as error:
                    raise RaftLogCorruptError(f"{path}: {error}") from error
            self.member = self.member.started()
            txn.put(b"member", encode_member(self.member), db=self._meta)

    def _load(self) -> None:
        with self._env.begin(buffers=True) as txn:
            state = txn.get(b"state", db=self._meta)
            if state is not None:
                self._decode_state(bytes(state))
            self.last_index = self.base_index
            self._disk_first = self.base_index + 1
            with txn.cursor(db=self._entries) as cursor:
                for key, value in cursor:
                    self._load_entry(_KEY.unpack(key)[0], key, value)
        self.durable_index = self._disk_last = self.last_index
        self._memory_first = self.last_index + 1
        if self.commit_index > self.last_index or self.term < self.last_term:
            raise RaftLogCorruptError(
                f"commit {self.commit_index}, term {self.term} do not fit last entry {self.last_index}/{self.last_term}"
            )
        self._dirty = self._disk_first <= self.base_index

    def _load_entry(self, index: int, key: memoryview, value: memoryview) -> None:
        self.bytes_total += _bytes_on_disk(len(value) - _ENTRY.size)
        if index <= self.base_index:
            self._disk_first = min(self._disk_first, index)  # compacted, but not deleted yet
            return
        if index != self.last_index + 1:
            raise RaftLogCorruptError(f"entry {self.last_index + 1} is missing: the next one is {index}")
        term, _ = _decode_entry(index, key, value)
        self._count_term(index, term)
        self.last_index = index

    def _decode_state(self, state: bytes) -> None:
        *numbers, crc = _STATE.unpack_from(state)
        vote = state[_STATE.size :]
        if zlib.crc32(_NUMBERS.pack(*numbers) + vote) != crc:
            raise RaftLogCorruptError("term, vote and commit do not fit their checksum")
        self.term, self.commit_index, self.base_index, self._base_term = numbers
        self.voted_for = vote.decode()

    def _release(self) -> None:
        self._failed = True
        self._env.close()
        self._disown()


def _crc(index: int, term: int, data: bytes | memoryview) -> int:
    return zlib.crc32(data, zlib.crc32(_CHECKED.pack(index, term)))


def _decode_entry(index: int, key: memoryview, value: memoryview) -> tuple[int, bytes]:
    if len(key) != _KEY.size or _KEY.unpack(key)[0] != index or len(value) < _ENTRY.size:
        raise RaftLogCorruptError(f"entry {index} is missing or cut short")
    term, crc = _ENTRY.unpack_from(value)
    data = bytes(value[_ENTRY.size :])
    if _crc(index, term, data) != crc:
        raise RaftLogCorruptError(f"entry {index} does not fit its checksum")
    return term, data


def _bytes_on_disk(data_bytes: int) -> int:
    """What LMDB takes for an entry, to within a few per cent."""
    stored = data_bytes + _ENTRY.size
    if stored <= _INLINE_BYTES_MAX:
        return stored + 24
    return (stored + 16 + _PAGE - 1) // _PAGE * _PAGE
