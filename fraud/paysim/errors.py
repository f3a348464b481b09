"""What can be wrong with a history that somebody else wrote."""

from __future__ import annotations


class DataError(ValueError):
    """The data breaks a rule; the message names the line, the column and the rule. Nothing was written."""


class LeakError(DataError):
    """One feature alone tells fraud apart: what was learned from such data would be worth nothing."""
