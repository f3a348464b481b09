"""Held payments as an analyst sees them, from the leader's applied state: what waits, who is in it, what they did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kibubu.review.v1 import review_pb2

from node.ledger import kernel
from node.ledger.columns import Column
from node.ledger.features import FEATURE_NAMES
from node.ledger.records import (
    SCORING_DECISION_MASK,
    SCORING_PPM_MASK,
    SCORING_PPM_SHIFT,
    SCORING_REASON_SHIFT,
    TransferFlag,
    leg_id,
)
from node.ledger.statuses import PaymentStatus, TransferCode
from node.payments.plan import HOLD_TIMEOUT_S, VERDICT_LEG
from node.payments.tariffs import Tariffs
from node.service.fraud_rules import RULE_REASON_FIRST, Rule
from node.service.fraud_thresholds import Thresholds
from node.service.limits import REVIEW_HISTORY_MAX
from node.service.payment_past import id_of, reference_as_id
from node.service.payment_reversals import RESERVED_S
from node.service.review_links import links_around
from node.service.review_opinions import KIND as OPINIONS
from node.service.review_opinions import REFUSE, RELEASE, key_of, opinions_in
from node.storage.held_chains import HeldChain
from node.storage.ledger_store import LedgerStore, StoredPayment, StoredTransfer

_STATES = {
    kernel.POSTED: review_pb2.REVIEW_STATE_RELEASED,
    kernel.VOIDED: review_pb2.REVIEW_STATE_REFUSED,
    kernel.EXPIRED: review_pb2.REVIEW_STATE_EXPIRED,
}
_VERDICTS = {RELEASE: review_pb2.VERDICT_RELEASE, REFUSE: review_pb2.VERDICT_REFUSE}
_PRINCIPALS = (TransferCode.PRINCIPAL, TransferCode.AIRTIME)


class ReviewBook:
    def __init__(self, store: LedgerStore, tariffs: Tariffs, thresholds: Callable[[], Thresholds]) -> None:
        self._store = store
        self._thresholds = thresholds
        self._tariffs = tariffs

    def waiting(self, limit: int) -> tuple[list[review_pb2.HeldPayment], int]:
        """The oldest, and how many wait in all. What a client itself made pending is not an analyst's."""
        references = self._store.waiting_references(_PRINCIPALS, held=True)
        found: list[review_pb2.HeldPayment] = []
        others = (
            0  # purchases that wait for a provider, what was reserved by hand, and members of a chain behind its first
        )
        for reference in references:
            if len(found) >= limit:
                break
            chain = self._store.held_chain(reference)
            if chain is not None:
                if reference == chain.first_reference:
                    found.append(self.describe(chain))
                else:
                    others += 1
                continue
            stored = self._store.transfer_at(reference)
            payment = self._held(int(stored.record["group_id_hi"]) << 64 | int(stored.record["group_id_lo"]))
            if payment is not None:
                found.append(self.describe(payment))
            else:
                others += 1
        return found, len(references) - others

    def _held(self, payment_id: int) -> StoredPayment | None:
        stored = self._store.lookup_payment(payment_id) if payment_id else None
        if stored is None or int(stored.record["status"]) != PaymentStatus.HELD_FOR_REVIEW:
            return None
        return stored if len(stored.legs) and not int(stored.legs[0]["status"]) else None

    def held(self, number: int) -> StoredPayment | HeldChain | None:
        """A payment of this id that was held and whose money was reserved, or the raw transfers of which one has this
        id, whatever became of it since."""
        payment = self._held(number)
        if payment is not None:
            return payment
        transfer = self._store.lookup_transfer(number) if number else None
        return self._store.held_chain(transfer.position << 16 | transfer.offset) if transfer is not None else None

    def state(self, stored: StoredPayment | HeldChain) -> review_pb2.ReviewState.ValueType:
        if isinstance(stored, HeldChain):
            reference = stored.first_reference
        else:
            reference = stored.position << 16 | int(stored.record["first_transfer"])
        return _STATES.get(self._store.pending_end(reference), review_pb2.REVIEW_STATE_WAITING)

    @staticmethod
    def parties(stored: StoredPayment | HeldChain) -> tuple[int, int]:
        """Account numbers of who pays and who is paid."""
        if isinstance(stored, HeldChain):
            record = stored.records[_riskiest(stored)]
            return int(record["debit_account"]), int(record["credit_account"])
        return int(stored.record["payer_account"]), int(stored.record["payee_account"])

    def describe(self, stored: StoredPayment | HeldChain) -> review_pb2.HeldPayment:
        return self._describe_chain(stored) if isinstance(stored, HeldChain) else self._describe_payment(stored)

    def _describe_chain(self, chain: HeldChain) -> review_pb2.HeldPayment:
        """By its riskiest member; what else the payer sends with it counts as fee. It has no kind of payment."""
        record, ids = chain.records[_riskiest(chain)], chain.ids
        payer, payee = self.parties(chain)
        scoring, amount_minor = int(record["scoring"]), int(record["amount_minor"])
        sent_minor = sum(chain.records["amount_minor"][chain.records["debit_account"] == payer].tolist())
        return review_pb2.HeldPayment(
            payment_id=ids[0].to_bytes(16, "big"),
            state=self.state(chain),
            held_time_ns=chain.timestamp_ns,
            expire_time_ns=chain.timestamp_ns + int(record["timeout_s"]) * 1_000_000_000,
            payer=self._party(payer),
            payee=self._party(payee),
            amount_minor=amount_minor,
            fee_minor=sent_minor - amount_minor,
            currency=self._tariffs.currency_of(int(record["ledger"])),
            decision=scoring & SCORING_DECISION_MASK,
            score_ppm=scoring >> SCORING_PPM_SHIFT & SCORING_PPM_MASK,
            model_version=f"{chain.model_version:08x}" if chain.model_version else "",
            thresholds_version=chain.thresholds_version,
            reasons=[_reason(scoring >> SCORING_REASON_SHIFT)] if scoring >> SCORING_REASON_SHIFT else [],
            analyst=self._analyst(ids[0]),
            opinions=self._opinions(ids[0]),
            analysts_needed=self._thresholds().analysts_needed(chain.total_minor),
        )

    def _analyst(self, number: int) -> str:
        verdict = self._store.lookup_transfer(leg_id(number, VERDICT_LEG))
        return _analyst(verdict) if verdict is not None and not int(verdict.outcome["status"]) else ""

    def _describe_payment(self, stored: StoredPayment) -> review_pb2.HeldPayment:
        record = stored.record
        payment_id = int(record["id_hi"]) << 64 | int(record["id_lo"])
        version = int(record["model_version"])
        reasons = (int(record[name]) for name in ("reason_1", "reason_2", "reason_3"))
        return review_pb2.HeldPayment(
            payment_id=payment_id.to_bytes(16, "big"),
            state=self.state(stored),
            held_time_ns=stored.timestamp_ns,
            expire_time_ns=stored.timestamp_ns + HOLD_TIMEOUT_S * 1_000_000_000,
            kind=int(record["kind"]),
            payer=self._party(int(record["payer_account"])),
            payee=self._party(int(record["payee_account"])),
            amount_minor=int(record["amount_minor"]),
            fee_minor=int(record["fee_minor"]),
            currency=self._tariffs.currency_of(int(record["ledger"])),
            decision=int(record["decision"]),
            score_ppm=int(record["score_ppm"]),
            model_version=f"{version:08x}" if version else "",
            reasons=[_reason(reason) for reason in reasons if reason],
            analyst=self._analyst(payment_id),
            opinions=self._opinions(payment_id),
            thresholds_version=int(record["thresholds_version"]),
            analysts_needed=self._thresholds().analysts_needed(int(record["amount_minor"])),
        )

    def _opinions(self, payment_id: int) -> list[review_pb2.Opinion]:
        return [
            review_pb2.Opinion(verdict=_VERDICTS[one.verdict], analyst=one.analyst, comment=one.comment)
            for one in opinions_in(self._store.document(OPINIONS, key_of(payment_id)))
        ]

    def links(self, stored: StoredPayment | HeldChain) -> list[review_pb2.Link]:
        return links_around(self._store, *self.parties(stored))

    def reversals(self, limit: int) -> tuple[list[review_pb2.Reversal], int]:
        """The oldest that wait, and how many there are in all."""
        references = self._store.waiting_references((TransferCode.REVERSAL,))
        transfers = [self._store.transfer_at(reference) for reference in references[:limit]]
        ids = [int(one.record["group_id_hi"]) << 64 | int(one.record["group_id_lo"]) for one in transfers]
        found = [stored for payment_id in ids if (stored := self.reversal(payment_id)) is not None]
        return [self._reversal(stored) for stored in found], len(references)

    def reversal(self, payment_id: int) -> StoredPayment | None:
        """A reversal that reserved money, whatever became of it since."""
        stored = self._store.lookup_payment(payment_id) if payment_id else None
        if stored is None or int(stored.record["status"]) != PaymentStatus.REVERSAL_IS_RESERVED:
            return None
        return stored if len(stored.legs) and not int(stored.legs[0]["status"]) else None

    def _reversal(self, stored: StoredPayment) -> review_pb2.Reversal:
        record = stored.record
        return review_pb2.Reversal(
            payment_id=id_of(stored).to_bytes(16, "big"),
            original_payment_id=reference_as_id(record["reference"]),
            receiver=self._party(int(record["payer_account"])),
            payer=self._party(int(record["payee_account"])),
            amount_minor=int(record["amount_minor"]),
            currency=self._tariffs.currency_of(int(record["ledger"])),
            asked_time_ns=stored.timestamp_ns,
            expire_time_ns=stored.timestamp_ns + RESERVED_S * 1_000_000_000,
            maker=maker_of(stored).decode("utf-8", "replace"),
        )

    def _party(self, account: int) -> review_pb2.Party:
        row, profile = self._store.columns[account].copy(), self._store.profile(account)
        balance_minor = int(row[Column.CREDITS_POSTED] - row[Column.DEBITS_POSTED])
        return review_pb2.Party(
            account_number=account,
            name=profile.name if profile is not None else "",
            handle=next((value for _, value in profile.handles), "") if profile is not None else "",
            balance_minor=balance_minor,
            available_minor=balance_minor - int(row[Column.DEBITS_PENDING]),
            create_time_ns=int(row[Column.CREATED_NS]),
        )

    def history(self, account: int) -> list[review_pb2.HistoryItem]:
        """What a person did, newest first: fees and duties, and the ends of pending transfers, are left out."""
        page = self._store.statement(account, 0, REVIEW_HISTORY_MAX)
        return [
            self._item(stored, account)
            for stored in page
            if int(stored.record["code"]) not in (TransferCode.FEE, TransferCode.EXCISE_DUTY, TransferCode.COMMISSION)
            and not int(stored.record["flags"]) & (TransferFlag.POST | TransferFlag.VOID)
        ]

    def _item(self, stored: StoredTransfer, account: int) -> review_pb2.HistoryItem:
        record, outcome = stored.record, stored.outcome
        is_debit = int(record["debit_account"]) == account
        other = int(record["credit_account" if is_debit else "debit_account"])
        profile = self._store.profile(other)
        return review_pb2.HistoryItem(
            timestamp_ns=stored.timestamp_ns,
            amount_minor=int(record["amount_minor"]),
            is_debit=is_debit,
            other_account=other,
            other_name=profile.name if profile is not None else "",
            balance_after_minor=int(outcome["debit_balance_minor" if is_debit else "credit_balance_minor"]),
            is_pending=bool(int(record["flags"]) & TransferFlag.PENDING),
        )


def maker_of(reversal: StoredPayment) -> bytes:
    """The operator who proposed it; empty = the payer asked."""
    narrative = bytes(reversal.transfers[0]["narrative"]).rstrip(b"\0")
    return narrative.partition(b"maker:")[2]


def _riskiest(chain: HeldChain) -> int:
    return int((chain.records["scoring"] >> SCORING_PPM_SHIFT & SCORING_PPM_MASK).argmax())


def _reason(number: int) -> str:
    """The name of a feature or of a rule."""
    if number >= RULE_REASON_FIRST:
        known = number - RULE_REASON_FIRST < len(Rule)
        return "rule_" + (Rule(number - RULE_REASON_FIRST).name.lower() if known else str(number))
    return FEATURE_NAMES[number - 1] if number <= len(FEATURE_NAMES) else f"feature_{number}"


def _analyst(verdict: StoredTransfer) -> str:
    narrative: Any = verdict.record["narrative"]
    return bytes(narrative).rstrip(b"\0").decode("utf-8", "replace").partition(":")[2]
