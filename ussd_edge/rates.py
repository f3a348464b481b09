"""How often a gateway or a handset may ask: a bucket that fills at a steady rate, kept as the one moment when it would
be full again (GCRA)."""

from __future__ import annotations

from collections import OrderedDict


class RateLimit:
    """`burst` at once, refilled within `period_s`; the least recently seen of more than `keys_max` keys are forgotten,
    which only ever lets more through."""

    def __init__(self, burst: int, period_s: float, *, keys_max: int) -> None:
        self._step_s = period_s / burst
        self._period_s = period_s
        self._keys_max = keys_max
        self._full_at_s: OrderedDict[str, float] = OrderedDict()

    def allows(self, key: str, now_s: float) -> bool:
        full_at_s = max(self._full_at_s.get(key, now_s), now_s) + self._step_s
        if full_at_s - now_s > self._period_s + self._step_s / 2:  # half a step: floats
            return False
        self._full_at_s[key] = full_at_s
        self._full_at_s.move_to_end(key)
        if len(self._full_at_s) > self._keys_max:
            self._full_at_s.popitem(last=False)
        return True
