"""Who is logged in. A login lives in this process alone: after a restart everybody logs in again.

The cookie holds a random number and nothing else; each login has a second one that forms must send back, so that a page
of somebody else cannot have a browser decide a payment.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

LOGIN_S = 8 * 3_600.0
LOGINS_MAX = 1_000
TRIES_MAX, TRIES_WINDOW_S = 10, 60.0  # wrong tokens of everybody together; then nobody gets in for a while
COOKIE = "kibubu_review"


@dataclass(frozen=True, slots=True)
class Login:
    analyst: str
    form_token: str
    ends_at_s: float


class Logins:
    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._open: dict[str, Login] = {}
        self._wrong_at_s: list[float] = []

    def begin(self, analyst: str) -> str:
        """The cookie's value. The oldest login ends when there are too many."""
        if len(self._open) >= LOGINS_MAX:
            del self._open[next(iter(self._open))]
        cookie = secrets.token_urlsafe(32)
        self._open[cookie] = Login(analyst, secrets.token_urlsafe(32), self._monotonic() + LOGIN_S)
        return cookie

    def find(self, cookie: str) -> Login | None:
        login = self._open.get(cookie)
        if login is not None and self._monotonic() >= login.ends_at_s:
            del self._open[cookie]
            return None
        return login

    def end(self, cookie: str) -> None:
        self._open.pop(cookie, None)

    def end_all_of(self, known: set[str]) -> None:
        """Logins of analysts who are no longer known end."""
        for cookie in [cookie for cookie, login in self._open.items() if login.analyst not in known]:
            del self._open[cookie]

    def may_try(self) -> bool:
        now_s = self._monotonic()
        self._wrong_at_s = [at_s for at_s in self._wrong_at_s if now_s - at_s < TRIES_WINDOW_S]
        return len(self._wrong_at_s) < TRIES_MAX

    def wrong(self) -> None:
        self._wrong_at_s.append(self._monotonic())


def is_own_form(login: Login, sent: str) -> bool:
    return hmac.compare_digest(login.form_token.encode(), sent.encode())
