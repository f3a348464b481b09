"""What payments turned out to be: an analyst's verdict, a customer's report, a confirmed loss, a reversal for fraud.

Verdicts are in the ledger already; anything else is a document of the kind `fraud_label` under the payment's id, which
stands above the verdict. A label is worth something once it is old enough to have been taken back: whoever reads them
says how old.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from kibubu.review.v1 import review_pb2

from node.ledger.history import Document
from node.service.review_book import ReviewBook
from node.service.review_opinions import KIND as OPINIONS
from node.storage.ledger_store import LedgerStore, StoredPayment

KIND = "fraud_label"
SOURCES = ("customer_report", "confirmed", "reversal")
COMMENT_LETTERS_MAX = 500
_LABELS = {"fraud": True, "honest": False}
_DECIDED = {review_pb2.REVIEW_STATE_RELEASED: False, review_pb2.REVIEW_STATE_REFUSED: True}
_KINDS = (KIND, OPINIONS)
_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)


def check_document(key: str, body: bytes) -> str:
    """The rule of this kind of document: its key. Raises ValueError with field and rule."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"key: must be a payment's id, 32 hexadecimal digits, is {key[:40]!r}")
    _parse(body)
    return key


def _parse(body: bytes) -> tuple[bool, str]:
    try:
        table = tomllib.loads(body.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"body: must be TOML: {error}") from error
    if set(table) - {"label", "source", "comment"}:
        raise ValueError("body: may have label, source and comment, and nothing else")
    label, source, comment = table.get("label"), table.get("source"), table.get("comment", "")
    if label not in _LABELS:
        raise ValueError(f"label: must be fraud or honest, is {label!r}")
    if source not in SOURCES:
        raise ValueError(f"source: must be one of {', '.join(SOURCES)}, is {source!r}")
    if not isinstance(comment, str) or len(comment) > COMMENT_LETTERS_MAX:
        raise ValueError(f"comment: must be a text of at most {COMMENT_LETTERS_MAX} letters")
    return _LABELS[label], source


class LabelBook:
    def __init__(self, store: LedgerStore, book: ReviewBook) -> None:
        self._store = store
        self._book = book

    def page(self, token: str, size: int, until_ns: int) -> tuple[list[review_pb2.Label], str]:
        """Labels given until then (0 = all), and the token of the next page, "" = there is none. `token`: kind:key.
        Raises ValueError. A page looks at `size` documents, so it may hold fewer labels, even none."""
        kind, colon, after = token.partition(":")
        if token and (kind not in _KINDS or not colon or not _KEY.fullmatch(after)):
            raise ValueError("page_token: is not one of this call")
        kind = kind or KIND
        documents = self._store.documents(kind, after, size)
        labels = [
            label
            for document in documents
            if not until_ns or document.timestamp_ns <= until_ns
            for label in self._labels(document)
        ]
        if len(documents) == size:
            return labels, f"{kind}:{documents[-1].key}"
        return labels, f"{OPINIONS}:{'0' * 32}" if kind == KIND else ""

    def _labels(self, document: Document) -> Iterator[review_pb2.Label]:
        number = int(document.key, 16)
        label = review_pb2.Label(
            payment_id=bytes.fromhex(document.key), author=document.author, label_time_ns=document.timestamp_ns
        )
        if document.kind == KIND:
            stored = self._store.lookup_payment(number)
            if stored is not None:
                label.is_fraud, label.source = _parse(document.body)
                yield _of_payment(label, stored)
            return
        held = self._book.held(number)
        verdict = _DECIDED.get(self._book.state(held)) if held is not None else None
        if held is None or verdict is None or self._store.document(KIND, document.key) is not None:
            return
        label.is_fraud, label.source = verdict, "verdict"
        described = self._book.describe(held)
        label.payment_time_ns, label.amount_minor = described.held_time_ns, described.amount_minor
        label.decision, label.score_ppm = described.decision, described.score_ppm
        label.model_version = described.model_version
        yield label


def _of_payment(label: review_pb2.Label, stored: StoredPayment) -> review_pb2.Label:
    record, version = stored.record, int(stored.record["model_version"])
    label.payment_time_ns, label.amount_minor = stored.timestamp_ns, int(record["amount_minor"])
    label.decision, label.score_ppm = int(record["decision"]), int(record["score_ppm"])
    label.model_version = f"{version:08x}" if version else ""
    return label
