"""The Raft journal: entries, term, vote, commit and membership, appended to preallocated files, by one write and one
sync for each flush.

    raft_log.py      the log's rules            log_index.py     which group holds which entries
    groups.py        the form of a group        log_identity.py  whose folder it is; what was synced last
    segments.py      groups in files            spares.py        files for the next segments
    folder.py        the seam to the operating system

Appending, truncating, compacting and voting between two sync() calls become durable together or not at all. The newest
entries stay in memory, bounded in bytes; older ones are read back. Every entry carries a checksum over its index, term
and bytes, checked when the journal is opened and whenever an entry is read back.
"""

from __future__ import annotations

import bisect
import threading
from pathlib import Path

from node.storage.groups import Group, Place, State
from node.storage.host import SYSTEM_HOST, FolderInUseError, Host
from node.storage.log_errors import RaftLogCorruptError, RaftLogError, RaftLogIdentityError
from node.storage.log_identity import key_of
from node.storage.log_index import LogIndex
from node.storage.member import Member, MemberRecordError, decode_member, encode_member
from node.storage.old_journal import OldJournal, find_old_journal
from node.storage.segments import SEGMENT_BYTES, Position, Segments

__all__ = ["RaftLog", "RaftLogCorruptError", "RaftLogError", "RaftLogIdentityError"]

MEMORY_BYTES_MAX = 64 << 20
_ENTRY_BYTES = 16  # on disk, beside its data
_OBJECT_BYTES = 200  # in memory, beside its data: of small entries the larger part
_ADOPTED_PER_SYNC_BYTES = 16 << 20


class RaftLog:
    """Owned by one thread. After a failed sync every further call refuses: what is on disk is unknown."""

    def __init__(
        self,
        path: Path,
        *,
        cluster_id: str,
        node_id: str,
        segment_bytes: int = SEGMENT_BYTES,
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
        self._unsynced_bytes = 0
        self._disk_last = 0  # above durable_index while a truncation is not synced
        self._index = LogIndex()
        self._changing = threading.Lock()  # the index and the list of segments, against check()
        self.member = Member(voter=not joins)
        self._member_dirty = False
        self._member_encoded = b""
        self._dirty = False
        self._failed = False
        try:
            self._disown = host.own_folder(path)
        except FolderInUseError as error:
            raise RaftLogError(str(error)) from error
        self._segments: Segments | None = None
        try:
            folder = host.open_folder(path)
            old = find_old_journal(path, folder, cluster_id, node_id)
            key = key_of(folder, cluster_id, node_id, str(path), host.random_bytes)
            self._segments = Segments(folder, key, segment_bytes, host.start)
            self._load()
            if old is not None:
                self._adopt(old)
            self._count_start()
            if old is not None:
                old.remove(folder)
        except BaseException:
            self._release()
            raise

    @property
    def last_term(self) -> int:
        return self._run_terms[-1] if self._run_terms else self._base_term

    @property
    def dirty(self) -> bool:
        return self._dirty

    @property
    def bytes_total(self) -> int:
        """On disk, of the groups that hold entries which may still be read, and of what is not synced yet."""
        return self._index.bytes + self._unsynced_bytes

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
        last = min(self.last_index, first + count_max - 1)
        entries = self._read_disk(first, min(last, self._memory_first - 1), bytes_max)
        bytes_max -= sum([len(data) for _, data in entries])
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
        self._memory_bytes += len(data) + _OBJECT_BYTES
        self._unsynced_bytes += len(data) + _ENTRY_BYTES
        self._dirty = True
        return self.last_index

    def truncate(self, first: int) -> None:
        if not self.base_index < first <= self.last_index:
            raise RaftLogError(f"cannot truncate from {first}: entries are {self.base_index + 1} to {self.last_index}")
        for index in range(max(first, self._memory_first), self.last_index + 1):
            data = self._memory.pop(index)[1]
            self._memory_bytes -= len(data) + _OBJECT_BYTES
            if index > self.durable_index:
                self._unsynced_bytes -= len(data) + _ENTRY_BYTES
        self._memory_first = min(self._memory_first, first)
        self._cut_runs(first)
        self.last_index = first - 1
        self.durable_index = min(self.durable_index, self.last_index)
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
        self._forget_runs(index)
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
        self._write()
        self._failed = self._member_dirty = self._dirty = False
        self._disk_last = self.durable_index = self.last_index
        self._unsynced_bytes = 0
        while self._memory_bytes > self._memory_bytes_max and self._memory_first < self.last_index:
            self._shrink_memory(self._memory_first + 1)

    def close(self) -> None:
        """Closes without a further sync: what was not synced was promised to nobody."""
        self._release()

    def room_bytes(self) -> int:
        """Bytes that the journal may still grow, when the disk has no room for more files."""
        return self._files().room_bytes()

    def check(self, first: int, bytes_max: int) -> tuple[int, int]:
        """Check what is stored from the group of entry `first` on, from any thread: (where to go on, 0 = nowhere; bytes
        read). Groups without entries are checked with those before them."""
        files, index = self._files(), self._index
        with self._changing:
            used = dict(files.used)
            at = max(0, index.number_of(first))
            upto = index.behind(at, bytes_max)
            begin = Position(*index.place(at)[:2]) if at else Position(min(used), 0)
            newest = max(used)
            end = Position(*index.place(upto)[:2]) if upto < len(index) else Position(newest, used[newest])
            following = index.first(upto) if upto < len(index) else 0
        try:
            return following, files.verify(begin, end, used)
        except (RaftLogCorruptError, FileNotFoundError):
            with self._changing:
                if begin.segment in files.used:
                    raise
            return following, 0  # compacted away in the meantime

    def _read_disk(self, first: int, last: int, bytes_max: int) -> list[tuple[int, bytes]]:
        entries: list[tuple[int, bytes]] = []
        while first <= last:
            found = self._index.find(first)
            part = self._files().read(found.place, first, min(last, found.last), bytes_max)
            bytes_max -= sum([len(data) for _, data in part])
            if bytes_max < 0 and entries:
                break
            entries += part
            first += len(part)
            if first <= min(last, found.last):
                break
        return entries

    def _files(self) -> Segments:
        if self._segments is None:
            raise RaftLogError("the journal is closed")
        return self._segments

    def _write(self) -> None:
        first = self.durable_index + 1
        entries = [self._memory[index] for index in range(first, self.last_index + 1)]
        place = self._files().append(self._state(), first, entries)
        with self._changing:
            self._index_group(first, self.last_index, place)
            self._index.drop(self.base_index)
            self._files().give_up_before(self._index.place(0).segment if len(self._index) else place.segment)

    def _state(self) -> State:
        return State(
            self.term, self.voted_for, self.commit_index, self.base_index, self._base_term, self._member_bytes()
        )

    def _member_bytes(self) -> bytes:
        if self._member_dirty or not self._member_encoded:
            self._member_encoded = encode_member(self.member)
        return self._member_encoded

    def _index_group(self, first: int, last: int, place: Place) -> None:
        self._index.cut(first)
        if last >= first:
            self._index.add(first, last, place)

    def _count_term(self, index: int, term: int) -> None:
        if not self._run_terms or self._run_terms[-1] != term:
            self._run_starts.append(index)
            self._run_terms.append(term)

    def _cut_runs(self, first: int) -> None:
        while self._run_starts and self._run_starts[-1] >= first:
            self._run_starts.pop()
            self._run_terms.pop()

    def _forget_runs(self, index: int) -> None:
        """Up to `index`, which is compacted away."""
        if index >= self.last_index:
            self._run_starts.clear()
            self._run_terms.clear()
            return
        keep = max(0, bisect.bisect_right(self._run_starts, index) - 1)
        del self._run_starts[:keep], self._run_terms[:keep]
        self._run_starts[0] = max(self._run_starts[0], index + 1)

    def _shrink_memory(self, first: int) -> None:
        for index in range(self._memory_first, min(first, self.last_index + 1)):
            self._memory_bytes -= len(self._memory.pop(index)[1]) + _OBJECT_BYTES
        self._memory_first = first

    def _load(self) -> None:
        number = 0
        member = b""
        for group in self._files().load():
            if group.number != number + 1:
                self._forget_all()
            elif group.first > max(self.last_index, group.state.base_index) + 1:
                raise RaftLogCorruptError(f"entry {group.first} follows entry {self.last_index}")
            self._load_group(group)
            number, member = group.number, group.state.member
        if member:
            self.member = _decode_member(member)
        self._check_loaded()
        self._forget_runs(self.base_index)
        self._index.drop(self.base_index)
        self.durable_index = self._disk_last = self.last_index
        self._memory_first = self.last_index + 1

    def _forget_all(self) -> None:
        self._index.cut(0)
        self._cut_runs(0)

    def _load_group(self, group: Group) -> None:
        self._index_group(group.first, group.last, group.place)
        self._cut_runs(group.first)
        for index, row in enumerate(group.rows, start=group.first):
            self._count_term(index, row[0])
        self.last_index = group.last
        self.term, self.voted_for, self.commit_index, self.base_index, self._base_term, _ = group.state

    def _check_loaded(self) -> None:
        first = self._index.first(0) if len(self._index) else self.last_index + 1
        if not self.base_index <= self.last_index or first > self.base_index + 1:
            raise RaftLogCorruptError(f"entries {self.base_index + 1} to {first - 1} are missing")
        if self.commit_index > self.last_index or self.term < self.last_term:
            raise RaftLogCorruptError(
                f"commit {self.commit_index}, term {self.term} do not fit last entry {self.last_index}/{self.last_term}"
            )

    def _adopt(self, old: OldJournal) -> None:
        """Everything that an older version kept in LMDB."""
        self.term, self.voted_for, self.commit_index = old.term, old.voted_for, old.commit_index
        self.base_index, self._base_term = old.base_index, old.base_term
        self.last_index = self.durable_index = self._disk_last = old.base_index
        self._memory_first = old.base_index + 1
        self.member = old.member
        for term, data in old.entries():
            self.append(term, data)
            if self._unsynced_bytes >= _ADOPTED_PER_SYNC_BYTES:
                RaftLog.sync(self)

    def _count_start(self) -> None:
        self.set_member(self.member.started())
        RaftLog.sync(self)

    def _release(self) -> None:
        self._failed = True
        if self._segments is not None:
            self._segments.close()
            self._segments = None
        self._disown()


def _decode_member(member: bytes) -> Member:
    try:
        return decode_member(member)
    except MemberRecordError as error:
        raise RaftLogCorruptError(str(error)) from error
