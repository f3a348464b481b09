"""How documents lie in their database: every version under kind, key and version counted down, so that of each key the
newest comes first, and a kind's documents are read in key order by leaping from key to key."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from node.ledger.history import BrokenHistoryError, Document
from node.storage.checked import unseal

_VALUE = struct.Struct("<QqH")  # position, timestamp_ns, bytes of the author
_VERSION_MAX = (1 << 64) - 1
_VERSION_BYTES = 8


def _of_key(kind: str, key: str) -> bytes:
    return f"{kind}\0{key}\0".encode()


def items(of_keys: Iterable[list[Document]]) -> list[tuple[bytes, bytes]]:
    """(key, value) in key order."""
    return sorted((_key(document), _value(document)) for versions_ in of_keys for document in versions_)


def _key(document: Document) -> bytes:
    turned = _VERSION_MAX - document.version
    return _of_key(document.kind, document.key) + turned.to_bytes(_VERSION_BYTES, "big")


def _value(document: Document) -> bytes:
    author = document.author.encode()
    return _VALUE.pack(document.position, document.timestamp_ns, len(author)) + author + document.body


def _document(key: bytes, value: bytes) -> Document:
    kind, name, _ = bytes(key[:-_VERSION_BYTES]).decode().split("\0")
    version = _VERSION_MAX - int.from_bytes(key[-_VERSION_BYTES:], "big")
    position, timestamp_ns, author_bytes = _VALUE.unpack_from(value)
    if len(value) < _VALUE.size + author_bytes:
        raise BrokenHistoryError(f"document {kind} {name} {version} is stored in {len(value)} bytes")
    body_at = _VALUE.size + author_bytes
    author = bytes(value[_VALUE.size : body_at]).decode()
    return Document(kind, name, version, bytes(value[body_at:]), author, position, timestamp_ns)


def versions(txn: Any, database: Any, kind: str, key: str, before_version: int = 0) -> Iterator[Document]:
    """Of one document, newest first; before_version 0 = from the newest."""
    prefix = _of_key(kind, key)
    start = prefix + (_VERSION_MAX - before_version + 1).to_bytes(_VERSION_BYTES, "big") if before_version else prefix
    with txn.cursor(database) as cursor:
        found = cursor.set_range(start)
        while found and cursor.key().startswith(prefix):
            yield _document(cursor.key(), unseal("documents", cursor.key(), cursor.value()))
            found = cursor.next()


def newest_of(txn: Any, database: Any, kind: str, after_key: str) -> Iterator[Document]:
    """What is in force of a kind, in key order, behind after_key ("" = from the first)."""
    with txn.cursor(database) as cursor:
        start = f"{kind}\0{after_key}\1" if after_key else f"{kind}\0"
        while cursor.set_range(start.encode()) and cursor.key().startswith(f"{kind}\0".encode()):
            document = _document(cursor.key(), unseal("documents", cursor.key(), cursor.value()))
            yield document
            start = f"{kind}\0{document.key}\1"
