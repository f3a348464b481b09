"""Documents: configuration that is agreed on like money. Tariffs, tiers, rates and lists come through the log as
versions of a (kind, key); the newest is in force on every node from the same position on, every older one is kept."""

from __future__ import annotations

import re
from typing import Protocol

from kibubu.raft.v1 import raft_pb2

from node.ledger import tiers
from node.ledger.history import Document, Facts, History
from node.ledger.statuses import CommandStatus as C
from node.ledger.tiers import TierError, Tiers, parse_tiers

BODY_BYTES_MAX = 64 * 1_024
AUTHOR_BYTES_MAX = 64
KIND_FORM = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
KEY_FORM = re.compile(r"[0-9A-Za-z_.:/-]{1,64}", re.ASCII)


class Readers(Protocol):
    """What the state machine itself makes of documents."""

    tiers: Tiers


def put_document(
    readers: Readers, history: History, facts: Facts, put: raft_pb2.PutDocument, position: int, timestamp_ns: int
) -> tuple[C, int]:
    """(status, version in force afterwards; 0 = the document was refused by its form)."""
    if not KIND_FORM.fullmatch(put.kind):
        return C.DOCUMENT_KIND_MALFORMED, 0
    if not KEY_FORM.fullmatch(put.key):
        return C.DOCUMENT_KEY_MALFORMED, 0
    if len(put.body) > BODY_BYTES_MAX:
        return C.DOCUMENT_TOO_LARGE, 0
    if not 0 < len(put.author.encode()) <= AUTHOR_BYTES_MAX:
        return C.DOCUMENT_AUTHOR_MALFORMED, 0
    before = history.document(put.kind, put.key)
    version = before.version if before else 0
    if put.HasField("replaces_version") and put.replaces_version != version:
        return C.DOCUMENT_VERSION_DIFFERS, version
    if put.kind == tiers.KIND:
        try:
            readers.tiers = tiers_in(put.key, put.body, readers.tiers)
        except TierError:
            return C.DOCUMENT_BREAKS_ITS_RULES, version
    facts.set_document(Document(put.kind, put.key, version + 1, put.body, put.author, position, timestamp_ns))
    return C.OK, version + 1


def tiers_in(key: str, body: bytes, before: Tiers) -> Tiers:
    """Raises TierError."""
    if key != tiers.KEY:
        raise TierError(f"key: all tiers are in one document, {tiers.KEY!r}, not {key!r}")
    return parse_tiers(body, before)
