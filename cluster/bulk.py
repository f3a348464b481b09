"""Bulk payments from a CSV file: what is wrong with it line by line, and the runner that pays an approved batch."""

from __future__ import annotations

import csv
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kibubu.bulk.v1 import bulk_pb2, bulk_pb2_grpc

from cluster.calls import Caller, CallError, NotAppliedError, UnknownOutcomeError
from cluster.money import AmountError, parse_amount_minor

ROWS_MAX = 10_000
PROBLEMS_MAX = 20
FILE_BYTES_MAX = 2 << 20
PAGE_ROWS = 100
PATIENCE_S = 60.0  # without any progress; then the runner says how to go on
REFERENCE_BYTES_MAX = 20
_COLUMNS = ("phone", "amount", "reference")
_PHONE = re.compile(r"\+?[0-9]{9,15}", re.ASCII)
STATES = {
    bulk_pb2.BATCH_STATE_SUBMITTED: "waits for approval",
    bulk_pb2.BATCH_STATE_APPROVED: "approved",
    bulk_pb2.BATCH_STATE_REJECTED: "rejected",
}
SENTENCES = {
    bulk_pb2.BULK_STATUS_BATCH_ID_USED_FOR_ANOTHER_BATCH: "another batch has this id",
    bulk_pb2.BULK_STATUS_BATCH_NOT_FOUND: "there is no such batch",
    bulk_pb2.BULK_STATUS_CHECKER_IS_MAKER: "who submitted a batch may not decide about it",
    bulk_pb2.BULK_STATUS_BATCH_WAS_DECIDED: "this batch was decided already",
    bulk_pb2.BULK_STATUS_BATCH_IS_NOT_APPROVED: "this batch is not approved",
    bulk_pb2.BULK_STATUS_DIGEST_DIFFERS: "this is not the batch that was looked at",
    bulk_pb2.BULK_STATUS_INSUFFICIENT_FUNDS: "the account has not enough for the next rows",
}


class FileProblemsError(Exception):
    """Each line of the message names a line of the file, a field and a rule."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems[:PROBLEMS_MAX]))


class StoppedError(Exception):
    """The runner cannot go on now; what it has paid stays paid."""


@dataclass(slots=True)
class Tally:
    """What became of the rows so far."""

    rows: int = 0
    paid: int = 0
    paid_minor: int = 0
    fees_minor: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, one: bulk_pb2.RowOutcome) -> None:
        self.rows += 1
        status = one.outcome.status_name if one.decided else "not paid yet"
        self.statuses[status] += 1
        if status == "ok":
            self.paid += 1
            self.paid_minor += one.row.amount_minor
            self.fees_minor += one.outcome.fee_minor


def read_rows(path: Path, *, allow_duplicates: bool) -> list[bulk_pb2.Row]:
    """The rows of a CSV with the columns phone, amount and reference (which may be left out). Raises FileProblemsError
    with every problem found, up to twenty."""
    if path.stat().st_size > FILE_BYTES_MAX:
        raise FileProblemsError([f"{path.name}: at most {FILE_BYTES_MAX:,} bytes"])
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _rows(csv.DictReader(file, strict=True), allow_duplicates)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileProblemsError([f"{path.name}: is no CSV in UTF-8: {error}"]) from error


def _rows(reader: csv.DictReader[str], allow_duplicates: bool) -> list[bulk_pb2.Row]:
    missing = [name for name in _COLUMNS[:2] if name not in (reader.fieldnames or ())]
    unknown = [str(name) for name in reader.fieldnames or () if name not in _COLUMNS]
    if missing or unknown:
        parts = [f"has no column {name}" for name in missing] + [f"column {name!r} is none of ours" for name in unknown]
        raise FileProblemsError([f"line 1: {part}; the columns are {', '.join(_COLUMNS)}" for part in parts])
    rows: list[bulk_pb2.Row] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for line in reader:
        at = f"line {reader.line_num}"
        problems += [f"{at}, {name}: {rule}" for name, rule in _problems(line)]
        phone = (line["phone"] or "").strip()
        if not allow_duplicates and phone in seen:
            problems.append(f"{at}, phone: is on line {seen[phone]} already (--allow-duplicates lets it pass)")
        seen.setdefault(phone, reader.line_num)
        if len(rows) >= ROWS_MAX:
            problems.append(f"{at}: a batch has at most {ROWS_MAX:,} rows")
        if len(problems) >= PROBLEMS_MAX:
            break
        if not problems:
            rows.append(
                bulk_pb2.Row(
                    row=len(rows) + 1, payee=phone.removeprefix("+"), amount_minor=parse_amount_minor(line["amount"]),
                    reference=(line.get("reference") or "").strip(),
                )
            )  # fmt: skip
    if problems or not rows:
        raise FileProblemsError(problems or ["the file has no rows"])
    return rows


def _problems(line: dict[str, str]) -> Iterator[tuple[str, str]]:
    if None in line:
        yield "phone", "the line has more fields than the first"
        return
    if not _PHONE.fullmatch((line["phone"] or "").strip()):
        yield "phone", f"must be a phone number, is {(line['phone'] or '')[:20]!r}"
    try:
        parse_amount_minor(line["amount"] or "")
    except AmountError as error:
        yield "amount", str(error)
    reference = (line.get("reference") or "").strip()
    if len(reference.encode()) > REFERENCE_BYTES_MAX or not reference.isprintable():
        yield "reference", f"at most {REFERENCE_BYTES_MAX} bytes that can be printed"


def batch_of(caller: Caller, batch_id: str) -> bulk_pb2.Batch:
    """Raises CallError when there is none."""
    answer = _get(caller, bulk_pb2.GetBatchRequest(batch_id=batch_id))
    return answer.batch


def outcomes(caller: Caller, batch: bulk_pb2.Batch) -> Iterator[bulk_pb2.RowOutcome]:
    for first in range(1, batch.rows + 1, PAGE_ROWS):
        request = bulk_pb2.GetBatchRequest(batch_id=batch.batch_id, first_row=first, count=PAGE_ROWS)
        yield from _get(caller, request).rows


def _get(caller: Caller, request: bulk_pb2.GetBatchRequest) -> bulk_pb2.GetBatchResponse:
    answer = caller.leader(lambda c: bulk_pb2_grpc.BulkServiceStub(c).GetBatch, request)
    check(answer.status)
    return answer


def check(status: bulk_pb2.BulkStatus.ValueType) -> None:
    if status != bulk_pb2.BULK_STATUS_OK:
        raise CallError(SENTENCES.get(status, bulk_pb2.BulkStatus.Name(status)))


def run(caller: Caller, batch: bulk_pb2.Batch, say: Callable[[Tally], None]) -> Tally:
    """Pay every row, from the first: those that are paid already only say so again. Raises StoppedError."""
    tally, first, last_progress_s = Tally(), 1, time.monotonic()
    while first <= batch.rows:
        request = bulk_pb2.PayRowsRequest(batch_id=batch.batch_id, first_row=first, count=PAGE_ROWS)
        try:
            answer = caller.leader(lambda c: bulk_pb2_grpc.BulkServiceStub(c).PayRows, request)
        except (NotAppliedError, UnknownOutcomeError) as error:
            _give_up_late(last_progress_s, str(error))
            continue
        if answer.status == bulk_pb2.BULK_STATUS_INSUFFICIENT_FUNDS:
            raise StoppedError(f"stopped before row {first}: {SENTENCES[answer.status]}")
        check(answer.status)
        for one in answer.rows:
            if not one.decided:
                break
            tally.add(one)
            first = one.row.row + 1
            last_progress_s = time.monotonic()
        else:
            say(tally)
            continue
        _give_up_late(last_progress_s, one.error_message)
    return tally


def _give_up_late(last_progress_s: float, reason: str) -> None:
    if time.monotonic() - last_progress_s > PATIENCE_S:
        raise StoppedError(f"no row was decided for {PATIENCE_S:g} s: {reason}")
    time.sleep(0.05)  # the next leader may be up by then
