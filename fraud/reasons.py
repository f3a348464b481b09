"""The reasons of a score, as the ledger keeps them, in words."""

from __future__ import annotations

from collections.abc import Iterable

from fraud.words import WORDS
from node.ledger.features import FEATURE_NAMES

__all__ = ["WORDS", "in_words"]


def in_words(reasons: Iterable[int]) -> list[str]:
    """reasons: feature number + 1, 0 = none, as the ledger keeps them."""
    names = (FEATURE_NAMES[number - 1] for number in reasons if 0 < number <= len(FEATURE_NAMES))
    return [WORDS.get(name, name.replace("_", " ")) for name in names]
