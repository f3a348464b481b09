"""What a call can end with besides an answer. A money path never guesses, so the three endings are three classes."""

from __future__ import annotations


class KibubuError(Exception):
    """The common ancestor."""


class NotAppliedError(KibubuError):
    """Surely nothing happened: no attempt reached a leader that took it."""


class UnknownOutcomeError(KibubuError):
    """It may have happened. Ask again with the same id: it happens at most once."""


class InvalidRequestError(KibubuError):
    """The request breaks a rule of its form, or this certificate may not make it; nothing happened. The message names
    the field and the rule."""
