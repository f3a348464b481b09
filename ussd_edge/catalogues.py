"""The menu's languages: gettext catalogues, compiled, and which one a phone is spoken to in.

A customer's choice is in the ledger, so that screens and SMS agree; the session store remembers it for a while. That
of a number without an account is only in the store.
"""

from __future__ import annotations

import contextlib
import gettext
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from kibubu.payments.v1 import payments_pb2

from kibubu_client import Client, KibubuError, id_bytes, new_id
from ussd_edge.limits import (
    LANGUAGE_DEADLINE_S,
    LANGUAGE_REMEMBERED_S_MAX,
    LANGUAGE_S_MAX,
    LANGUAGE_UNKNOWN_S_MAX,
)
from ussd_edge.menu.texts import ENGLISH, LANGUAGES, Words
from ussd_edge.sessions import store_key
from ussd_edge.store import SessionStore, StoreDownError

FOLDER = Path(__file__).resolve().parent / "locale"
DOMAIN = "kibubu"
SOURCE_LANGUAGE = "en"  # the code's own


def load_words() -> Mapping[str, Words]:
    """Every language of the menu. Raises OSError when a compiled catalogue is not there."""
    words = {SOURCE_LANGUAGE: ENGLISH}
    for language in LANGUAGES:
        if language != SOURCE_LANGUAGE:
            catalogue = gettext.translation(DOMAIN, FOLDER, [language])
            words[language] = Words(catalogue.gettext, catalogue.ngettext)
    return MappingProxyType(words)


class LanguageBook(Protocol):
    async def language_of(self, msisdn: str) -> str: ...

    async def choose(self, msisdn: str, language: str) -> None: ...


class LedgerLanguages:
    """A store or a ledger that is down costs the choice, not the step."""

    def __init__(self, client: Client, store: SessionStore, currency: str, default: str) -> None:
        self._client = client
        self._store = store
        self._currency = currency
        self._default = default

    async def language_of(self, msisdn: str) -> str:
        with contextlib.suppress(StoreDownError):
            stored = await self._store.get(store_key("language", msisdn))
            if stored in LANGUAGES:
                return stored
        language, seconds_max = self._default, LANGUAGE_UNKNOWN_S_MAX
        with contextlib.suppress(KibubuError):
            chosen = await self._client.language(msisdn, self._currency, deadline_s=LANGUAGE_DEADLINE_S)
            language = chosen if chosen in LANGUAGES else self._default
            seconds_max = LANGUAGE_REMEMBERED_S_MAX
        await self._remember(msisdn, language, seconds_max)
        return language

    async def choose(self, msisdn: str, language: str) -> None:
        request = payments_pb2.SetLanguageRequest(
            request_id=id_bytes(new_id()), msisdn=msisdn, currency=self._currency, language=language
        )
        seconds_max = LANGUAGE_S_MAX
        with contextlib.suppress(KibubuError):
            answer = await self._client.set_language(request)
            if answer.status_name == "ok":
                seconds_max = LANGUAGE_REMEMBERED_S_MAX
        await self._remember(msisdn, language, seconds_max)

    async def _remember(self, msisdn: str, language: str, seconds_max: int) -> None:
        with contextlib.suppress(StoreDownError):
            await self._store.put(store_key("language", msisdn), language, seconds_max)
