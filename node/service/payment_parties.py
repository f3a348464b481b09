"""Who is meant: accounts by handle, names by account, the operator's accounts; remembered, since each payment asks."""

from __future__ import annotations

from collections.abc import Sequence

from node.ledger.columns import Column
from node.ledger.history import Profile
from node.payments import billers
from node.payments.kinds import KindTerms
from node.payments.msisdn import MsisdnError, normalise
from node.payments.tariffs import Tariffs
from node.service.fraud_rules import Listed
from node.service.limits import HANDLES_REMEMBERED_MAX, NAMES_REMEMBERED_MAX
from node.storage.ledger_store import LedgerStore


class PaymentParties:
    def __init__(self, store: LedgerStore, tariffs: Tariffs) -> None:
        self._store = store
        self._tariffs = tariffs
        self._operators: dict[int, tuple[int, int]] = {}  # ledger -> accounts of fees and of excise duty
        self._profiles: dict[int, Profile | None] = {}  # for as long as no profile has changed
        self._profiles_version = -1
        self._bearers: dict[int, str] = {}  # of the charge, by payee, for as long as no document has changed
        self._bearers_version = -1
        self._handles: dict[tuple[int, str, str], int] = {}  # a handle never leaves its account, so this stays true

    def account(self, ledger: int, key: str, value: str) -> int:
        """0 = there is none."""
        if not value:
            return 0
        handle = (ledger, key, value)
        number = self._handles.get(handle, 0)
        if not number:
            number = self._store.account_by_handle(ledger, key, value)
            if number:
                if len(self._handles) >= HANDLES_REMEMBERED_MAX:
                    self._handles.clear()
                self._handles[handle] = number
        return number

    def by_keys(self, ledger: int, keys: Sequence[str], value: str) -> int:
        return next((number for key in keys if (number := self.account(ledger, key, value))), 0)

    def system(self, ledger: int, name: str) -> int:
        """An account of the operator: `KES/fees` and the like."""
        return self.account(ledger, "system", f"{self._tariffs.currency_of(ledger)}/{name}")

    def payee(self, ledger: int, terms: KindTerms, payee: str) -> int:
        if terms.payee_system:
            return self.system(ledger, terms.payee_system) if payee else 0
        return self.account(ledger, terms.payee_key, payee)

    def operators(self, ledger: int) -> tuple[int, int]:
        """Accounts of fees and of excise duty; 0 = the operator has none."""
        return self._operators.get(ledger) or self._find_operators(ledger)

    def _find_operators(self, ledger: int) -> tuple[int, int]:
        fees, excise = (self.system(ledger, name) for name in ("fees", "excise"))
        if fees and excise:
            self._operators[ledger] = fees, excise
        return fees, excise

    def bearer(self, account: int) -> str:
        """Whom a biller or shop has chosen to bear the charge; "" = none."""
        if self._bearers_version != self._store.documents_version or len(self._bearers) >= NAMES_REMEMBERED_MAX:
            self._bearers_version = self._store.documents_version
            self._bearers.clear()
        found = self._bearers.get(account)
        if found is None:
            found = self._bearers[account] = self._find_bearer(account)
        return found

    def _find_bearer(self, account: int) -> str:
        profile = self._store.profile(account) if account else None
        currency = self._tariffs.currency_of(int(self._store.columns[account, Column.LEDGER]))
        for handle, number in profile.handles if profile is not None else ():
            if handle in billers.HANDLES:
                document = self._store.document(billers.KIND, billers.key_of(currency, handle, number))
                if document is not None:
                    return billers.parse_biller(document.body)
        return ""

    def can_pay_agents(self, ledger: int) -> bool:
        return self.system(ledger, "commissions") > 0

    def listed(self, lists: Sequence[Listed]) -> dict[int, list[Listed]]:
        """The entries of lists by account, in every currency that has a tariff."""
        found: dict[int, list[Listed]] = {}
        for entry in lists:
            for ledger in self._tariffs.ledgers:
                account = self.account(ledger, "msisdn", entry.msisdn)
                if account:
                    found.setdefault(account, []).append(entry)
        return found

    def kind_of(self, account: int) -> int:
        return int(self._store.columns[account, Column.KIND])

    def profile_of(self, account: int) -> Profile | None:
        """From any thread: what another thread read before a change goes into the dictionary of before."""
        version = self._store.profiles_version
        if self._profiles_version != version or len(self._profiles) >= NAMES_REMEMBERED_MAX:
            self._profiles, self._profiles_version = {}, version
        known = self._profiles
        if account not in known:
            known[account] = self._store.profile(account) if account else None
        return known[account]

    def name_of(self, account: int) -> str:
        profile = self.profile_of(account)
        return profile.name if profile is not None else ""

    def language_of(self, account: int) -> str:
        profile = self.profile_of(account)
        return profile.language if profile is not None else ""

    def handle_of(self, account: int, *keys: str) -> str:
        """The first handle of one of these keys."""
        profile = self.profile_of(account)
        handles = profile.handles if profile is not None else ()
        return next((value for name, value in handles if name in keys), "")


def normalised(msisdn: str) -> str:
    """ "" = no mobile number."""
    try:
        return normalise(msisdn)
    except MsisdnError:
        return ""
