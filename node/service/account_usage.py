"""What an account has used of its tier's limits, as operators and receipts tell it."""

from __future__ import annotations

from typing import Any

from kibubu.ledger.v1 import ledger_pb2

from node.ledger import usage
from node.ledger.tiers import Tiers


def usage_of(row: Any, tiers: Tiers, now_ns: int) -> ledger_pb2.Usage | None:
    """Of an account's row; None = it has no tier."""
    word = int(row[usage.TIER])
    tier = tiers.by_number.get(word & usage.TIER_MASK)
    if tier is None:
        return None
    limits = tiers.rows_at(now_ns)[tier.number].tolist()
    last, sums = int(usage.last_day(word)), usage.used(row.reshape(1, -1), 0)
    starts = (limits[usage.TODAY], limits[usage.WEEK_START], limits[usage.MONTH_START])
    day, week, month = (int(minor) if last >= start else 0 for minor, start in zip(sums, starts, strict=True))
    bounds = ((limits[usage.DAY], day), (limits[usage.WEEK], week), (limits[usage.MONTH], month))
    left = [max(limit - used, 0) for limit, used in bounds if limit != usage.NO_LIMIT]
    moved = max(int(row[at]) for at in (usage.LAST_OUT, usage.LAST_IN, usage.CREATED, usage.PIN_SET))
    return ledger_pb2.Usage(
        tier=tier.number,
        tier_name=tier.name,
        day_minor=day,
        week_minor=week,
        month_minor=month,
        left_today_minor=min(left) if left else -1,
        is_dormant=0 < limits[usage.DORMANT_NS] <= now_ns - moved,
    )
