"""What analysts say of a held payment, as a document of the ledger: every version stays, and the newest holds each
analyst's newest opinion. Pure: bodies in, bodies out. A verdict is carried out when enough different analysts agree.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from kibubu.raft.v1 import raft_pb2

from node.ledger.history import Document

KIND = "review"  # not among the kinds that ConfigService takes: opinions come by ReviewService alone
OPINIONS_MAX = 20
RELEASE, REFUSE = "release", "refuse"


class TooManyOpinionsError(Exception):
    """More analysts than a payment can have."""


@dataclass(frozen=True, slots=True)
class Opinion:
    analyst: str
    verdict: str  # RELEASE or REFUSE
    comment: str


def key_of(payment_id: int) -> str:
    return f"{payment_id:032x}"


def opinions_in(document: Document | None) -> list[Opinion]:
    if document is None:
        return []
    return [Opinion(str(one[0]), str(one[1]), str(one[2])) for one in json.loads(document.body)]


def agreeing(opinions: list[Opinion], verdict: str) -> int:
    """How many different analysts say so."""
    return len({opinion.analyst for opinion in opinions if opinion.verdict == verdict})


def command_for(payment_id: int, before: Document | None, opinion: Opinion) -> raft_pb2.Command | None:
    """None = this is what the analyst has said already. Applied only where `before` is still the newest version.
    Raises TooManyOpinionsError."""
    opinions = opinions_in(before)
    if opinion in opinions:
        return None
    kept = [one for one in opinions if one.analyst != opinion.analyst]
    if len(kept) >= OPINIONS_MAX:
        raise TooManyOpinionsError(f"at most {OPINIONS_MAX} analysts speak about one payment")
    rows = [[one.analyst, one.verdict, one.comment] for one in (*kept, opinion)]
    body = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
    version = before.version if before is not None else 0
    put = raft_pb2.PutDocument(
        kind=KIND, key=key_of(payment_id), body=body, author=opinion.analyst, replaces_version=version
    )
    own = hashlib.blake2b(put.SerializeToString(deterministic=True), digest_size=16).digest()
    return raft_pb2.Command(request_id=own, put_document=put)
