"""Receipts: ten letters and digits that name a payment and lead back to it, made of its place in the log.

The field's scheme: year (N = 2019 ... U = 2026), month (A..L), day (1..9, A..V), then seven more. These seven are the
position in the log and the payment's offset there, scattered so that a digit mistyped is not the neighbour's receipt.
The position is taken modulo POSITIONS, so within one day a code is unique as long as the log grows by fewer entries
than that (443 a second, all day), and which of all positions is meant follows from the day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache

from node.ledger.entry import BATCH_PAYMENTS_MAX

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
YEARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
YEAR_FIRST = 2006
RECEIPT_LENGTH = 10
_CODES = len(LETTERS) ** 7
POSITIONS = _CODES // BATCH_PAYMENTS_MAX
_SCATTER = 48_431_302_157  # no factor in common with _CODES (powers of 2 and 3), and near its golden section
_GATHER = pow(_SCATTER, -1, _CODES)
# Local time of a currency's country, in minutes before UTC; never changed, or receipts would no longer lead back.
_UTC_OFFSET_MINUTES = {404: 180, 800: 180, 834: 180, 566: 60, 710: 120}
_QUARTER_NS = 900 * 1_000_000_000
_DAY_NS = 86_400 * 1_000_000_000
_OFFSET_NS_MAX = 14 * 3_600 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """What a receipt says: the day, and the position modulo POSITIONS."""

    day: date
    residue: int
    offset: int

    @property
    def span_ns(self) -> tuple[int, int]:
        """Within these two times the payment was made, wherever on earth that day was meant."""
        midnight_ns = int(datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC).timestamp()) * 1_000_000_000
        return midnight_ns - _OFFSET_NS_MAX, midnight_ns + _DAY_NS + _OFFSET_NS_MAX

    def first_position_from(self, position: int) -> int:
        return position + (self.residue - position) % POSITIONS


def receipt_of(position: int, offset: int, timestamp_ns: int, ledger: int) -> str:
    """Of the payment at `offset` of the entry at `position`; `ledger` is the currency's ISO 4217 number."""
    number = (position % POSITIONS * BATCH_PAYMENTS_MAX + offset) * _SCATTER % _CODES
    code = ""
    for _ in range(7):
        number, digit = divmod(number, len(LETTERS))
        code = LETTERS[digit] + code
    return _day_letters(timestamp_ns // _QUARTER_NS, ledger) + code


@lru_cache(maxsize=16)
def _day_letters(quarter: int, ledger: int) -> str:
    """The same for a quarter of an hour, and asked for each payment within it."""
    minutes = quarter * 15 + _UTC_OFFSET_MINUTES.get(ledger, 0)
    local = datetime.fromtimestamp(minutes * 60, UTC)
    year = YEARS[(local.year - YEAR_FIRST) % len(YEARS)]
    return f"{year}{LETTERS[9 + local.month]}{LETTERS[local.day]}"


def place_of(receipt: str) -> Place | None:
    """None = no receipt that could ever have been given."""
    text = receipt.strip().upper()
    if len(text) != RECEIPT_LENGTH or any(letter not in LETTERS for letter in text):
        return None
    month, day = LETTERS.index(text[1]) - 9, LETTERS.index(text[2])
    try:
        made = date(YEAR_FIRST + YEARS.index(text[0]), month, day)
    except ValueError:
        return None
    residue, offset = divmod(int(text[3:], 36) * _GATHER % _CODES, BATCH_PAYMENTS_MAX)
    return Place(made, residue, offset) if residue < POSITIONS else None
