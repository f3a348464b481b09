"""Money for somebody without an account: it waits with the operator, reserved and with its fee, for a week.

The receipt of the payment names the voucher; its secret, six digits that the sender passes on by another way, follows
from the payment's id under the PIN key, so it is stored nowhere. An agent pays it out in cash against both; or it goes
to the number's account as soon as there is one; or the sender takes it back; or the week ends, and everything goes
back, the fee as well. Wrong secrets are counted in the replicated state, and while one is being decided no other is
compared.
"""

from __future__ import annotations

import hmac

from kibubu.payments.v1 import payments_pb2
from kibubu.raft.v1 import raft_pb2

from node.ledger import kernel
from node.ledger.records import TransferFlag
from node.ledger.statuses import PaymentKind, PaymentStatus, TransferCode
from node.payments.kinds import KINDS, VOUCHER_TO_ACCOUNT, KindTerms
from node.payments.plan import Leg, content_hash, derived_id
from node.payments.tariffs import Tariffs
from node.service.payment_drafts import Draft, Special
from node.service.payment_parties import PaymentParties, normalised
from node.service.payment_past import PaymentPast, id_as_reference, id_of
from node.service.payment_reversals import ending_legs
from node.storage.ledger_store import LedgerStore, StoredPayment

VOUCHER_S = 7 * 24 * 3_600
SECRET_DIGITS = 6
SECRET_TRIES_MAX = 5
_ENDED = {kernel.POSTED: PaymentStatus.VOUCHER_ALREADY_REDEEMED, kernel.VOIDED: PaymentStatus.VOUCHER_EXPIRED,
          kernel.EXPIRED: PaymentStatus.VOUCHER_EXPIRED}  # fmt: skip


def secret_of(key: bytes, voucher_id: int) -> str:
    number = int.from_bytes(hmac.digest(key, b"voucher" + voucher_id.to_bytes(16, "big"), "sha256")[:8], "big")
    return f"{number % 10**SECRET_DIGITS:0{SECRET_DIGITS}}"


class PaymentVouchers:
    def __init__(
        self, store: LedgerStore, past: PaymentPast, parties: PaymentParties, tariffs: Tariffs, pin_key: bytes
    ) -> None:
        self._store = store
        self._past = past
        self._parties = parties
        self._tariffs = tariffs
        self._key = pin_key

    def issue(self, draft: Draft) -> None:
        """What a draft of SEND_TO_UNREGISTERED has beside the usual."""
        if self._parties.account(draft.ledger, "msisdn", draft.payee_name):
            draft.refuse(PaymentStatus.PAYEE_IS_REGISTERED)
        if draft.payee_name and draft.status is PaymentStatus.PAYEE_NOT_FOUND:
            draft.status = PaymentStatus.OPERATOR_ACCOUNT_MISSING
        draft.special = Special(
            waits_s=VOUCHER_S,
            waits_as=PaymentStatus.VOUCHER_WAITS,
            told={"voucher_secret": secret_of(self._key, draft.payment_id)},
        )

    def redeem(self, payment_id: int, request: payments_pb2.Payment, secret: str) -> Draft | PaymentStatus:
        """By an agent, who enters the PIN and hands out the cash."""
        voucher = self._past.named(request.original_payment_id)
        if voucher is None or not self._is_voucher(voucher):
            return PaymentStatus.VOUCHER_NOT_FOUND
        ledger, terms = int(voucher.record["ledger"]), KINDS[request.kind]
        if ledger != self._tariffs.ledger_of(request.currency):
            return PaymentStatus.CURRENCY_DIFFERS
        named = request.payer or normalised(request.payer_msisdn)
        agent = self._parties.account(ledger, "agent" if request.payer else "msisdn", named)
        if not agent:
            return PaymentStatus.PAYER_NOT_FOUND
        voucher_id = f"{id_of(voucher):032x}"
        content = content_hash(terms.kind, named, voucher_id, request.amount_minor, request.currency, "")
        draft = self._draft(payment_id, terms, voucher, agent, content)
        if self._parties.kind_of(agent) not in terms.payer_kinds:
            draft.refuse(terms.not_of_payer_kind)
        if request.amount_minor not in (0, draft.amount_minor):
            draft.refuse(PaymentStatus.PAYMENT_DIFFERS_FROM_REQUEST)
        self._judge_secret(draft, voucher, secret)
        return draft

    def to_account(self, voucher: StoredPayment, account: int) -> Draft:
        """The number has an account now. The id follows from the voucher, so it happens once, whoever leads."""
        payment_id = derived_id(id_of(voucher), "registered")
        content = content_hash(PaymentKind.REDEEM_VOUCHER, "", f"{id_of(voucher):032x}", 0, "", str(account))
        return self._draft(payment_id, VOUCHER_TO_ACCOUNT, voucher, account, content)

    @staticmethod
    def _is_voucher(stored: StoredPayment) -> bool:
        is_sent = int(stored.record["status"]) == PaymentStatus.VOUCHER_WAITS and len(stored.legs) > 0
        return is_sent and not any(stored.legs["status"].tolist())

    def _draft(self, payment_id: int, terms: KindTerms, voucher: StoredPayment, payee: int, content: int) -> Draft:
        record = voucher.record
        draft = Draft(
            payment_id=payment_id,
            terms=terms,
            ledger=int(record["ledger"]),
            payer_account=int(record["payee_account"]),
            payee_account=payee,
            amount_minor=int(record["amount_minor"]),
            reference=id_as_reference(id_of(voucher)),
            content_hash=content,
            signer_account=payee,
            payee_name=self._parties.name_of(payee),
        )
        out = Leg(draft.payer_account, payee, draft.amount_minor, TransferCode.PRINCIPAL, draft.ledger)
        ends = ending_legs(voucher, b"redeemed", TransferFlag.POST, TransferCode.VOUCHER_END)
        draft.special = Special(legs=[*ends, out], is_covered=True, alone_on=id_of(voucher))
        ended = _ENDED.get(self._past.end(voucher))
        if ended is not None:
            draft.refuse(ended)
        return draft

    def _judge_secret(self, draft: Draft, voucher: StoredPayment, secret: str) -> None:
        """The verdict counts, and is told, only when the agent's PIN was right."""
        tries = self._tries(id_of(voucher))
        if tries >= SECRET_TRIES_MAX:
            draft.refuse(PaymentStatus.VOUCHER_LOCKED)
        elif draft.special is not None and not _is_right(secret_of(self._key, id_of(voucher)), secret):
            draft.special.problem = PaymentStatus.VOUCHER_SECRET_WRONG
            note = raft_pb2.NoteWrongSecret(payment_id=id_of(voucher).to_bytes(16, "big"), number=tries)
            request_id = _try_id(id_of(voucher), tries)
            draft.special.commands.append(raft_pb2.Command(request_id=request_id, note_wrong_secret=note))

    def _tries(self, voucher_id: int) -> int:
        """Wrong secrets so far: each is a command whose id has its number."""
        for number in range(SECRET_TRIES_MAX):
            if self._store.remembered(_try_id(voucher_id, number)) is None:
                return number
        return SECRET_TRIES_MAX


def _try_id(voucher_id: int, number: int) -> bytes:
    return derived_id(voucher_id, "wrong-secret", number).to_bytes(16, "big")


def _is_right(secret: str, told: str) -> bool:
    return hmac.compare_digest(secret.encode(), told.encode())
