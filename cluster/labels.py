"""What `kibubu fraud label` and `labels` do: say what a payment turned out to be, and list what was said, as CSV."""

from __future__ import annotations

import csv
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

from kibubu.config.v1 import config_pb2, config_pb2_grpc
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc
from kibubu.review.v1 import review_pb2, review_pb2_grpc

from cluster.calls import Caller, CallError

KIND = "fraud_label"
PAGE = 500
DAY_NS = 86_400_000_000_000
COLUMNS = (
    "payment_id", "label", "source", "author", "labelled", "paid", "amount_minor", "decision", "score_ppm",
    "model_version",
)  # fmt: skip
_DONE = (0, 1)  # CommandStatus: ok, exists


def label(caller: Caller, payment_id: bytes, label: str, source: str, comment: str, author: str) -> str:
    """One line that says what is known now. Raises CallError."""
    looked_up = caller.leader(
        lambda channel: payments_pb2_grpc.PaymentsServiceStub(channel).LookupPayment,
        payments_pb2.LookupPaymentRequest(payment_id=payment_id),
    )
    if not looked_up.found:
        raise CallError(f"no payment has the id {payment_id.hex()}")
    rows = {"label": label, "source": source, "comment": comment}
    body = "".join(f"{name} = {json.dumps(text, ensure_ascii=False)}\n" for name, text in rows.items())
    request = config_pb2.PutDocumentRequest(
        request_id=secrets.token_bytes(16), kind=KIND, key=payment_id.hex(), body=body.encode(), author=author
    )
    answer = caller.leader(lambda channel: config_pb2_grpc.ConfigServiceStub(channel).PutDocument, request)
    if answer.status not in _DONE:
        raise CallError(f"{answer.status_name}: nothing was changed")
    return f"{payment_id.hex()} counts as {label} ({source}), position {answer.position}"


def labels(caller: Caller, until_ns: int) -> Iterator[review_pb2.Label]:
    token = ""
    while True:
        request = review_pb2.ListLabelsRequest(page_size=PAGE, page_token=token, until_ns=until_ns)
        answer = caller.leader(lambda channel: review_pb2_grpc.ReviewServiceStub(channel).ListLabels, request)
        yield from answer.labels
        token = answer.next_page_token
        if not token:
            return


def write_csv(found: Iterator[review_pb2.Label], file: TextIO) -> int:
    """Returns how many."""
    writer, count = csv.writer(file), 0
    writer.writerow(COLUMNS)
    for one in found:
        writer.writerow(
            (one.payment_id.hex(), "fraud" if one.is_fraud else "honest", one.source, one.author,
             _time(one.label_time_ns), _time(one.payment_time_ns), one.amount_minor, one.decision, one.score_ppm,
             one.model_version)
        )  # fmt: skip
        count += 1
    return count


def _time(timestamp_ns: int) -> str:
    return datetime.fromtimestamp(timestamp_ns // 1_000_000_000, UTC).isoformat()
