"""The tariffs that the cluster has agreed on: documents of the kind `tariff`, one a currency and date. A currency that
has none yet is priced by the files of the node's installation."""

from __future__ import annotations

from node.payments.tariffs import DatedTariffs, Tariff, tariff_of
from node.storage.ledger_store import LedgerStore

KIND = "tariff"


class TariffBook:
    """Implements tariffs.Tariffs. Read anew when a document has changed."""

    def __init__(self, store: LedgerStore, files: DatedTariffs) -> None:
        self._store = store
        self._files = files
        self._version = -1
        self._current = files
        self._sources: dict[tuple[int, int], str] = {}  # (ledger, version of the tariff) -> where it is from

    def _now(self) -> DatedTariffs:
        version = self._store.documents_version
        if version != self._version:
            self._current, self._version = self._read(), version
        return self._current

    def _read(self) -> DatedTariffs:
        found: list[Tariff] = []
        self._sources.clear()
        key = ""
        while page := self._store.documents(KIND, key):
            for document in page:
                tariff = tariff_of(document.body, f"tariff {document.key} version {document.version}")
                source = f"document {document.key}, version {document.version} by {document.author}"
                self._sources[tariff.ledger, tariff.version] = source
                found.append(tariff)
            key = page[-1].key
        agreed = {tariff.ledger for tariff in found}
        return DatedTariffs.of([*found, *[one for one in self._files.dated if one.ledger not in agreed]])

    def source_of(self, tariff: Tariff) -> str:
        return self._sources.get((tariff.ledger, tariff.version), "file of this installation")

    def in_force(self, ledger: int, timestamp_ns: int) -> Tariff | None:
        return self._now().in_force(ledger, timestamp_ns)

    def ledger_of(self, currency: str) -> int:
        return self._now().ledger_of(currency)

    @property
    def ledgers(self) -> set[int]:
        return self._now().ledgers

    def currency_of(self, ledger: int) -> str:
        return self._now().currency_of(ledger)
