"""A history as Parquet: one row a payment, its features as the node had them before it, and what it turned out to be.

The file says which features it holds; one that was made with other features is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraud.paysim.errors import DataError
from fraud.simulate.replay import History, Say, simulate_in_parts
from node.ledger import features as f

_SCHEMA_KEY = b"kibubu_feature_schema"
_FACTS = {
    "time_ns": ("times_ns", pa.int64()),
    "payer": ("payers", pa.int64()),
    "payee": ("payees", pa.int64()),
    "kind": ("kinds", pa.int8()),
    "paid_minor": ("amounts_minor", pa.int64()),
    "typology": ("typology", pa.int8()),
    "incident": ("cases", pa.int32()),
}
SCHEMA = pa.schema(
    [(name, kind) for name, (_, kind) in _FACTS.items()] + [("f_" + name, pa.float32()) for name in f.FEATURE_NAMES],
    metadata={_SCHEMA_KEY: str(f.FEATURE_SCHEMA)},
)


def write_simulated(path: Path, customers: int, days: int, seed: int, say: Say) -> int:
    """Returns the number of payments. Raises ValueError for a town that is too small; the file appears when whole."""
    partial = path.with_name(path.name + ".partial")
    parts = simulate_in_parts(customers, days, seed, say)
    first = next(parts)
    rows = 0
    with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
        for history in _with(first, parts):
            writer.write_table(_table(history))
            rows += len(history.typology)
    partial.replace(path)
    return rows


def _with(first: History, rest: Iterator[History]) -> Iterator[History]:
    yield first
    yield from rest


def _table(history: History) -> pa.Table:
    facts = [pa.array(getattr(history, name), type=kind) for name, kind in _FACTS.values()]
    features = [pa.array(np.ascontiguousarray(history.features[:, k])) for k in range(f.FEATURE_COUNT)]
    return pa.Table.from_arrays(facts + features, schema=SCHEMA)


def read_history(path: Path) -> History:
    """Raises DataError: no such file, not Parquet, other features, not in order of time, numbers that are none."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}") from error
    made_with = (table.schema.metadata or {}).get(_SCHEMA_KEY, b"").decode(errors="replace")
    missing = [name for name in SCHEMA.names if name not in table.schema.names]
    if missing:
        raise DataError(f"{path}: missing columns: {', '.join(missing[:5])}")
    if made_with != str(f.FEATURE_SCHEMA):
        raise DataError(f"{path}: made with other features ({made_with or 'unnamed'}); make it again")
    if not table.num_rows:
        raise DataError(f"{path}: no payments in it")
    features = np.stack([table["f_" + name].to_numpy() for name in f.FEATURE_NAMES], axis=1).astype(np.float32)
    bad = np.argwhere(~np.isfinite(features))
    if len(bad):
        row, column = bad[0]
        raise DataError(f"{path}: row {row}: f_{f.FEATURE_NAMES[column]}: must be a finite number")
    facts = {field: table[name].to_numpy() for name, (field, _) in _FACTS.items()}
    backward = np.flatnonzero(np.diff(facts["times_ns"]) < 0)
    if len(backward):
        raise DataError(
            f"{path}: row {backward[0] + 1}: time_ns: earlier than the row before; must be in order of time"
        )
    return History(features=features, **facts)
