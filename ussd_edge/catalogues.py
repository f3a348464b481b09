"""The menu's languages: gettext catalogues, compiled, and which one a phone is spoken to in.

A phone's choice is kept in the session store, by its number. The ledger keeps no language of a customer yet; when it
does, another LanguageBook takes this one's place.
"""

from __future__ import annotations

import contextlib
import gettext
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from ussd_edge.limits import LANGUAGE_S_MAX
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


class StoredLanguages:
    """A store that is down costs the choice, not the step."""

    def __init__(self, store: SessionStore, default: str) -> None:
        self._store = store
        self._default = default

    async def language_of(self, msisdn: str) -> str:
        with contextlib.suppress(StoreDownError):
            stored = await self._store.get(store_key("language", msisdn))
            if stored in LANGUAGES:
                return stored
        return self._default

    async def choose(self, msisdn: str, language: str) -> None:
        with contextlib.suppress(StoreDownError):
            await self._store.put(store_key("language", msisdn), language, LANGUAGE_S_MAX)
