"""Money to another country: a quote first, then linked transfers in both currencies through the operator's liquidity.

In the payer's ledger: payer -> KES/liquidity, fee, duty. In the receiver's: UGX/liquidity -> receiver. One chain, all
or none. The rate is a document (node/payments/rates); the fee is the payer's, by the tariff of the payer's currency. A
payment takes the quote that it was shown, and none that is over its time, was for something else, or had another fee.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace

from kibubu.payments.v1 import payments_pb2

from node.ledger.columns import AccountFlag, Column
from node.ledger.currencies import CURRENCIES
from node.ledger.statuses import PaymentStatus, TransferCode
from node.payments.kinds import REMITTANCE
from node.payments.plan import Leg, content_hash
from node.payments.rates import Quote, Rate, converted_minor, opened, parse_rate
from node.payments.tariffs import Tariffs
from node.service.payment_drafts import Draft, Special
from node.service.payment_parties import PaymentParties, normalised
from node.storage.ledger_store import LedgerStore

RATES = "rates"  # the kind of document
_UNQUOTED = -1


class PaymentRemittances:
    def __init__(
        self, store: LedgerStore, parties: PaymentParties, tariffs: Tariffs, pin_key: bytes, time_ns: Callable[[], int]
    ) -> None:
        self._store = store
        self._parties = parties
        self._tariffs = tariffs
        self._key = pin_key
        self._time_ns = time_ns

    def draft(self, payment_id: int, request: payments_pb2.Payment, *, quoting: bool = False) -> Draft | PaymentStatus:
        """`quoting`: the rate is today's, instead of the one that was promised."""
        ledger, target = self._tariffs.ledger_of(request.currency), CURRENCIES.get(request.payee_currency)
        if not ledger or request.currency not in CURRENCIES or target is None or target.number == ledger:
            return PaymentStatus.CURRENCY_DIFFERS
        payer = normalised(request.payer_msisdn)
        payer_account = self._parties.account(ledger, "msisdn", payer)
        if not payer_account:
            return PaymentStatus.PAYER_NOT_FOUND
        payee = normalised(request.payee)
        receiver = self._parties.account(target.number, "msisdn", payee)
        what = f"{request.payee_currency} {request.quote.hex()}"
        draft = Draft(
            payment_id=payment_id,
            terms=REMITTANCE,
            ledger=ledger,
            payer_account=payer_account,
            payee_account=self._liquidity(request.currency),
            amount_minor=max(request.amount_minor, 0),
            reference=payee.encode(),
            content_hash=content_hash(
                REMITTANCE.kind, payer, payee or request.payee, request.amount_minor, request.currency, what
            ),
            signer_account=payer_account,
            payee_name=self._parties.name_of(receiver),
        )
        self._judge(draft, request, receiver)
        quote = self._offer(draft, request, receiver) if quoting else self._promised(draft, request, receiver)
        if quote is not None:
            self._convert(draft, request, quote, _UNQUOTED if quoting else quote.fee_minor)
        return draft

    def _liquidity(self, currency: str) -> int:
        return self._parties.account(CURRENCIES[currency].number, "system", f"{currency}/liquidity")

    def _judge(self, draft: Draft, request: payments_pb2.Payment, receiver: int) -> None:
        if request.amount_minor <= 0:
            draft.refuse(PaymentStatus.AMOUNT_MUST_BE_POSITIVE)
        if request.reference:
            draft.refuse(PaymentStatus.REFERENCE_MALFORMED)
        if not receiver:
            draft.refuse(PaymentStatus.PAYEE_NOT_FOUND)
        flags = int(self._store.columns[receiver, Column.FLAGS])
        if flags & AccountFlag.CLOSED:
            draft.refuse(PaymentStatus.PAYEE_CLOSED)
        if flags & AccountFlag.FROZEN:
            draft.refuse(PaymentStatus.PAYEE_FROZEN)
        if not draft.payee_account or not self._liquidity(request.payee_currency):
            draft.refuse(PaymentStatus.OPERATOR_ACCOUNT_MISSING)

    def _rate(self, request: payments_pb2.Payment) -> tuple[Rate, int] | None:
        """The rate in force, and the version of its document."""
        stored = self._store.document(RATES, f"{request.currency}/{request.payee_currency}")
        return (parse_rate(tomllib.loads(stored.body.decode())), stored.version) if stored is not None else None

    def _offer(self, draft: Draft, request: payments_pb2.Payment, receiver: int) -> Quote | None:
        found = self._rate(request)
        if found is None:
            draft.refuse(PaymentStatus.RATE_MISSING)
            return None
        rate, version = found
        source, target = CURRENCIES[request.currency], CURRENCIES[request.payee_currency]
        minor = converted_minor(draft.amount_minor, rate, source.exponent, target.exponent)
        expires_ns = self._time_ns() + rate.valid_s * 1_000_000_000
        return Quote(
            source.number, target.number, draft.payer_account, receiver, draft.amount_minor, minor, 0, version,
            expires_ns,
        )  # fmt: skip

    def _promised(self, draft: Draft, request: payments_pb2.Payment, receiver: int) -> Quote | None:
        quote = opened(self._key, request.quote)
        target = CURRENCIES[request.payee_currency].number
        asked = (draft.ledger, target, draft.payer_account, receiver, draft.amount_minor)
        if quote is None or asked != (
            quote.from_ledger, quote.to_ledger, quote.payer_account, quote.payee_account, quote.amount_minor,
        ):  # fmt: skip
            draft.refuse(PaymentStatus.QUOTE_MALFORMED)
            return None
        if self._time_ns() >= quote.expires_ns:
            draft.refuse(PaymentStatus.QUOTE_HAS_EXPIRED)
        return quote

    def _convert(self, draft: Draft, request: payments_pb2.Payment, quote: Quote, fee_minor: int) -> None:
        """What goes on in the other currency."""
        liquidity, minor = self._liquidity(request.payee_currency), quote.payee_amount_minor
        if minor <= 0:
            draft.refuse(PaymentStatus.AMOUNT_TOO_SMALL_TO_CONVERT)
        if self._available_minor(liquidity) < minor:
            draft.refuse(PaymentStatus.RATE_MISSING)
        draft.special = Special(
            more_legs=[Leg(liquidity, quote.payee_account, minor, TransferCode.CONVERTED, quote.to_ledger)],
            fee_minor=fee_minor,
            quote=quote,
            told={"payee_amount_minor": minor, "payee_currency": request.payee_currency},
        )

    def _available_minor(self, account: int) -> int:
        row = self._store.columns[account]
        held_minor = int(row[Column.CREDITS_POSTED] - row[Column.DEBITS_POSTED] - row[Column.DEBITS_PENDING])
        is_limited = int(row[Column.FLAGS]) & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
        return held_minor + int(row[Column.OVERDRAFT_LIMIT]) if is_limited else 1 << 63

    def sealed(self, draft: Draft) -> tuple[bytes, Quote] | None:
        """The quote of a draft that was priced, to be handed out."""
        quote = draft.special.quote if draft.special is not None else None
        if quote is None or draft.is_refused:
            return None
        priced = replace(quote, fee_minor=draft.fee.fee_minor)
        return priced.sealed(self._key), priced
