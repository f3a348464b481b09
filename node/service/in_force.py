"""What a document of the ledger says now, read anew only when some document has changed: for settings that every
payment asks for. Every node reads the same, from the same position on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from node.ledger.history import Document
from node.storage.ledger_store import LedgerStore

_log = logging.getLogger("kibubu.service")
Setting = TypeVar("Setting")


class InForce(Generic[Setting]):
    """`parse` gets the newest document; `default` holds while there is none. One that this version of the node cannot
    read (ValueError) changes nothing: payments go on under what was in force before."""

    def __init__(
        self, store: LedgerStore, kind: str, key: str, parse: Callable[[Document], Setting], default: Setting
    ) -> None:
        self._store, self._kind, self._key, self._parse = store, kind, key, parse
        self._default = self._now = default
        self._seen = -1

    def __call__(self) -> Setting:
        if self._seen != self._store.documents_version:
            self._seen = self._store.documents_version
            document = self._store.document(self._kind, self._key)
            try:
                self._now = self._default if document is None else self._parse(document)
            except ValueError as error:
                _log.error("document %s %s is not taken: %s", self._kind, self._key, error)
        return self._now
