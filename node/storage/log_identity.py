"""Two small files beside the journal's segments: whose folder it is, and which group was the last to be synced.

The second one closes a gap. A damaged last group looks like one that a crash has cut short; cutting it off would lose
what was acknowledged. So once a sync has returned, its number is noted here, and every group up to it must be there.
The note itself is not synced: it may be late, but never names a group that was not. A kill -9 leaves it up to date; a
power cut may take the last seconds of it, and then damage to the very last group can be mistaken for a torn write.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from node.storage.folder import Folder
from node.storage.log_errors import RaftLogCorruptError, RaftLogIdentityError

IDENTITY = "identity"
NOTE = "synced"
_FORMAT = b"kibubu-journal-2"
_KEY_BYTES = 32
_CRC = struct.Struct("<I")
_NOTE = struct.Struct("<QI")
_NOTE_FILE_BYTES = 4_096


def key_of(folder: Folder, cluster_id: str, node_id: str, where: str, random_bytes: Callable[[int], bytes]) -> bytes:
    """The folder's secret, under which its groups are digested; drawn when the folder is first used."""
    mine = b"\0".join((_FORMAT, cluster_id.encode(), node_id.encode()))
    names = folder.names()
    if IDENTITY not in names:
        if any(name.endswith(".log") for name in names):
            raise RaftLogCorruptError(f"{where} has segments of a journal, but no {IDENTITY}")
        return _make(folder, random_bytes(_KEY_BYTES), mine)
    stored = _content(folder, IDENTITY)
    body = stored[_CRC.size :]
    if stored[: _CRC.size] != _CRC.pack(zlib.crc32(body)):
        raise RaftLogCorruptError(f"{where}: the identity does not fit its checksum")
    if body[_KEY_BYTES:] != mine:
        raise RaftLogIdentityError(f"{where} belongs to {body[_KEY_BYTES:]!r}, this node is {mine!r}")
    return body[:_KEY_BYTES]


def _make(folder: Folder, key: bytes, mine: bytes) -> bytes:
    body = key + mine
    content = _CRC.pack(zlib.crc32(body)) + body
    temporary = f"{IDENTITY}.new"
    file = folder.create(temporary, len(content))
    try:
        file.write([content], 0)
        file.sync()
    finally:
        file.close()
    folder.rename(temporary, IDENTITY)
    folder.sync()
    return key


def _content(folder: Folder, name: str) -> bytes:
    file = folder.open(name)
    try:
        return file.read(file.size, 0)
    finally:
        file.close()


class SyncedNote:
    def __init__(self, folder: Folder) -> None:
        if NOTE not in folder.names():
            folder.create(NOTE, _NOTE_FILE_BYTES).close()
        self._file = folder.open(NOTE)
        number, crc = _NOTE.unpack(self._file.read(_NOTE.size, 0).ljust(_NOTE.size, b"\0"))
        # One that does not fit is as good as none: it was the evidence, not the thing itself.
        self.number = number if zlib.crc32(number.to_bytes(8, "little")) == crc else 0

    def take(self, number: int) -> None:
        """Only of a sync that has returned."""
        self._file.write([_NOTE.pack(number, zlib.crc32(number.to_bytes(8, "little")))], 0)
        self.number = number

    def close(self) -> None:
        self._file.close()
