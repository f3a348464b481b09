"""A payment on its way through the desk: who, what, and what has been decided about it so far."""

from __future__ import annotations

from dataclasses import dataclass

from node.ledger.statuses import FraudDecision, PaymentKind, PaymentStatus, PinVerdict
from node.payments.tariffs import Fee

NO_FEE = Fee(0, 0)


@dataclass(slots=True)
class Draft:
    payment_id: int
    kind: PaymentKind
    ledger: int
    payer_account: int
    payee_account: int  # 0 = not found, or a balance check
    amount_minor: int
    reference: bytes  # bill account, or the number that gets the airtime
    content_hash: int
    payee_name: str = ""
    fee: Fee = NO_FEE
    tariff_version: int = 0
    status: PaymentStatus = PaymentStatus.OK
    pin_verdict: PinVerdict = PinVerdict.NOT_CHECKED
    decision: FraudDecision = FraudDecision.NOT_SCORED
    hold: bool = False
    score_ppm: int = 0
    model_version: int = 0
    reasons: tuple[int, ...] = ()

    @property
    def is_refused(self) -> bool:
        return self.status is not PaymentStatus.OK

    @property
    def moves_money(self) -> bool:
        return not self.is_refused and self.kind is not PaymentKind.CHECK_BALANCE

    @property
    def final_status(self) -> PaymentStatus:
        """What the record says: the leader's part of the outcome."""
        return PaymentStatus.HELD_FOR_REVIEW if self.hold and self.moves_money else self.status

    def refuse(self, status: PaymentStatus) -> None:
        """Of several broken rules the one that stands first in PaymentStatus is told."""
        if not self.is_refused or status < self.status:
            self.status = status
