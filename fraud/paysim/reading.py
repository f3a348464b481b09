"""A PaySim CSV file of any size as blocks of whole steps, checked line by line.

Of the file only what is known before a payment is kept: new balances, flags and failed rows are dropped (both PaySim
generations tell fraud apart by them). PaySim writes a fraud's two rows one behind the other, so the order of rows
within a step is forgotten as well. Each step is put into a possible order of events that owes nothing to the file's:
money arrives before it leaves (deposits, transfers, payments, debits, withdrawals), and among equals the order is drawn
from a hash of what a row says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.paysim.errors import DataError

TYPES = ("CASH_IN", "CASH_OUT", "DEBIT", "PAYMENT", "TRANSFER")
PLACE_IN_STEP = np.array([0, 0, 4, 3, 2, 1])  # by type: CASH_IN, TRANSFER, PAYMENT, DEBIT, CASH_OUT
CASH_IN = TYPES.index("CASH_IN") + 1  # its money goes from the destination to the origin
CHUNK_ROWS = 200_000
STEP_ROWS_MAX = 20_000_000
STEP_MAX = 10_000_000
AMOUNT_MAX = 1e13  # major units; what int64 minor units hold with room to add
# The second PaySim generation spells some names otherwise.
_NEEDED = {
    "step": ("step",),
    "type": ("type", "action"),
    "amount": ("amount",),
    "nameOrig": ("nameorig",),
    "oldbalanceOrg": ("oldbalanceorg", "oldbalanceorig"),
    "nameDest": ("namedest",),
    "oldbalanceDest": ("oldbalancedest",),
    "isFraud": ("isfraud",),
}
_FAILED, _NEW_BALANCE = "isunauthorizedoverdraft", "newbalanceorig"

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows in time order, whole steps only when it comes from `blocks`."""

    step: Ints
    type: Ints  # number in TYPES + 1
    amount_minor: Ints
    origin: npt.NDArray[np.uint64]  # hash of the name
    destination: npt.NDArray[np.uint64]
    origin_balance_minor: Ints  # before the row
    destination_balance_minor: Ints
    is_merchant: Ints
    fraud: Ints  # 0 or 1
    draw: npt.NDArray[np.uint64]  # the row's place among those of its type in its step

    def __len__(self) -> int:
        return len(self.step)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Block:
        return Block(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Summary:
    rows: int  # that count: without failed ones
    failed_rows: int
    first_step: int
    last_step: int
    rows_by_type: dict[str, int]
    frauds_by_type: dict[str, int]

    @property
    def fraud_types(self) -> list[int]:
        """Numbers in TYPES + 1 of the types in which fraud occurs."""
        return [number for number, name in enumerate(TYPES, 1) if self.frauds_by_type[name]]


def summarise(path: Path) -> Summary:
    """Reads the whole file once. Raises DataError for the first thing that is wrong with it."""
    rows = failed = 0
    first = last = -1
    by_type, frauds = np.zeros(len(TYPES) + 1, np.int64), np.zeros(len(TYPES) + 1, np.int64)
    for block, dropped in _chunks(path):
        failed += dropped
        if not len(block):
            continue
        first = int(block.step[0]) if first < 0 else first
        last = int(block.step[-1])
        rows += len(block)
        by_type += np.bincount(block.type, minlength=len(by_type))
        frauds += np.bincount(block.type, weights=block.fraud, minlength=len(frauds)).astype(np.int64)
    if not rows:
        raise DataError(f"{path}: no payments in it")
    named = [dict(zip(TYPES, counts[1:].tolist(), strict=True)) for counts in (by_type, frauds)]
    return Summary(rows, failed, first, last, *named)


def blocks(path: Path) -> Iterator[Block]:
    """The rows that count, whole steps at a time, each step in the order that was made for it."""
    waiting: list[Block] = []
    for block, _ in _chunks(path):
        if not len(block):
            continue
        begin = int(np.searchsorted(block.step, block.step[-1]))  # the last step may go on in the next chunk
        if begin:
            yield _ordered(_joined([*waiting, block.take(slice(0, begin))]))
            waiting = []
        elif waiting and waiting[0].step[0] != block.step[0]:
            yield _ordered(_joined(waiting))
            waiting = []
        waiting.append(block.take(slice(begin, None)))
        if sum(map(len, waiting)) > STEP_ROWS_MAX:
            raise DataError(f"{path}: step {block.step[-1]}: more than {STEP_ROWS_MAX:,} rows in one step")
    if waiting:
        yield _ordered(_joined(waiting))


def _joined(parts: list[Block]) -> Block:
    return Block(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Block)))


def _ordered(block: Block) -> Block:
    return block.take(np.lexsort((block.draw, PLACE_IN_STEP[block.type], block.step)))


def _chunks(path: Path) -> Iterator[tuple[Block, int]]:
    """Checked rows in the file's order, and how many failed ones were dropped."""
    columns = _header(path)
    line, last_step = 2, 0
    try:
        # All columns are read: with a selection pushed down, Polars would not notice lines that are too long.
        file = pl.scan_csv(path, infer_schema=False, raise_if_empty=True, encoding="utf8-lossy")
        for whole in file.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True, engine="streaming"):
            frame = whole.select(pl.col(name).alias(alias) for alias, name in columns.items())
            frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))  # a blank line, as at the end of some files
            block, failed = _checked(frame, line, last_step)
            line += whole.height
            last_step = int(block.step[-1]) if len(block) else last_step
            keep = np.flatnonzero(~failed)
            yield (block, 0) if len(keep) == len(block) else (block.take(keep), len(block) - len(keep))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: line {line} or later: {str(error).splitlines()[0]}") from error


def _header(path: Path) -> dict[str, str]:
    """Our name of each column that is read: its name in the file."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            names = [name.strip().strip('"') for name in file.readline().rstrip("\r\n").split(",")]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if names == [""]:
        raise DataError(f"{path}: the file is empty")
    lower = {name.lower(): name for name in names}
    found = {ours: next((lower[name] for name in theirs if name in lower), "") for ours, theirs in _NEEDED.items()}
    missing = [name for name, there in found.items() if not there]
    if missing:
        raise DataError(f"{path}: line 1: missing columns: {', '.join(missing)}; there are: {', '.join(names)}")
    return found | {ours: lower[ours] for ours in (_FAILED, _NEW_BALANCE) if ours in lower}


def _checked(frame: pl.DataFrame, line: int, last_step: int) -> tuple[Block, npt.NDArray[np.bool_]]:
    step = _number(frame, "step", line, 0, STEP_MAX, whole=True).astype(np.int64)
    backward = np.flatnonzero(np.diff(step, prepend=last_step) < 0)
    if len(backward):
        at = int(backward[0])
        before = step[at - 1] if at else last_step
        raise DataError(f"line {line + at}: step: {step[at]} comes after {before}; the rows must be in order of time")
    amount = _number(frame, "amount", line, 0, AMOUNT_MAX)
    old = _number(frame, "oldbalanceOrg", line, -AMOUNT_MAX, AMOUNT_MAX)
    kinds = _types(frame, line)
    origin, destination = _name(frame, "nameOrig", line), _name(frame, "nameDest", line)
    amount_minor = np.rint(amount * 100).astype(np.int64)
    old_minor = np.rint(old * 100).astype(np.int64)
    block = Block(
        step=step,
        type=kinds,
        amount_minor=amount_minor,
        origin=origin,
        destination=destination,
        origin_balance_minor=old_minor,
        destination_balance_minor=np.rint(_number(frame, "oldbalanceDest", line, -AMOUNT_MAX, AMOUNT_MAX) * 100).astype(
            np.int64
        ),
        is_merchant=frame["nameDest"].str.starts_with("M").to_numpy().astype(np.int64),
        fraud=_number(frame, "isFraud", line, 0, 1, whole=True).astype(np.int64),
        draw=_draw(origin, destination, amount_minor, old_minor, kinds),
    )
    return block, _failed(frame, block, line)


def _number(
    frame: pl.DataFrame, name: str, line: int, least: float, most: float, *, whole: bool = False
) -> npt.NDArray[np.float64]:
    numbers = frame[name].str.strip_chars().cast(pl.Float64, strict=False).to_numpy()
    with np.errstate(invalid="ignore"):
        good = (numbers >= least) & (numbers <= most)
    if whole:
        good &= numbers == np.floor(numbers)
    bad = np.flatnonzero(~good)
    if len(bad):
        at = int(bad[0])
        rule = "a whole number" if whole else "a number"
        raise DataError(
            f"line {line + at}: {name}: must be {rule} from {least:,.0f} to {most:,.0f}, is {frame[name][at]!r}"
        )
    return numbers


def _types(frame: pl.DataFrame, line: int) -> Ints:
    numbers = (
        frame["type"]
        .str.strip_chars()
        .replace_strict(TYPES, list(range(1, len(TYPES) + 1)), default=0, return_dtype=pl.Int64)
        .fill_null(0)
        .to_numpy()
    )
    bad = np.flatnonzero(numbers == 0)
    if len(bad):
        at = int(bad[0])
        raise DataError(f"line {line + at}: type: must be one of {', '.join(TYPES)}, is {frame['type'][at]!r}")
    return numbers


def _name(frame: pl.DataFrame, name: str, line: int) -> npt.NDArray[np.uint64]:
    empty = frame[name].is_null() | (frame[name].str.len_bytes() == 0)
    if empty.any():
        raise DataError(f"line {line + int(empty.arg_max() or 0)}: {name}: must not be empty")
    return frame[name].hash(seed=1).to_numpy()


def _failed(frame: pl.DataFrame, block: Block, line: int) -> npt.NDArray[np.bool_]:
    """Payments that moved nothing: the file says so, or the origin could not pay and its balance stayed."""
    if _FAILED in frame.columns:
        return np.equal(_number(frame, _FAILED, line, 0, 1, whole=True), 1)
    if _NEW_BALANCE not in frame.columns:
        return np.zeros(len(block), dtype=np.bool_)
    new = _number(frame, _NEW_BALANCE, line, -AMOUNT_MAX, AMOUNT_MAX)
    stayed = np.rint(new * 100).astype(np.int64) == block.origin_balance_minor
    could_not_pay = (block.origin_balance_minor > 0) & (block.amount_minor > block.origin_balance_minor)
    failed: npt.NDArray[np.bool_] = stayed & could_not_pay & (block.type != CASH_IN)
    return failed


def _draw(*parts: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """64 bits drawn from what a row says (never from its label or its line)."""
    mixed = np.zeros(len(parts[0]), dtype=np.uint64)
    for part in parts:
        mixed = (mixed ^ part.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
    return mixed
