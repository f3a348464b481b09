"""A payment on its way through the desk: who, what, and what has been decided about it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kibubu.raft.v1 import raft_pb2

from node.ledger.statuses import FraudDecision, PaymentStatus, PinVerdict
from node.payments.kinds import KindTerms
from node.payments.plan import HOLD_TIMEOUT_S, Leg
from node.payments.rates import Quote
from node.payments.tariffs import Fee

NO_FEE = Fee(0, 0)
_OK = PaymentStatus.OK


@dataclass(slots=True)
class Special:
    """What some kinds have beside, or instead of, principal, fee and duty."""

    legs: Sequence[Leg] = ()  # instead of the usual ones
    waits_s: int = 0  # reserve for so long; what ends it is another command
    waits_as: PaymentStatus = PaymentStatus.OK  # what the caller is told until then
    is_covered: bool = False  # the money is reserved already: nothing needs to be available
    problem: PaymentStatus = PaymentStatus.OK  # a refusal that is told to nobody before the PIN was right
    commands: list[raft_pb2.Command] = field(default_factory=list)  # logged with it where the PIN was right
    more_legs: Sequence[Leg] = ()  # behind the usual ones
    fee_minor: int = -1  # what was promised, -1 = nothing was
    quote: Quote | None = None
    first_id: int = 0  # of the first leg, instead of the payment's own
    alone_on: int = 0  # while it is being decided, no other draft with this number is
    told: dict[str, Any] = field(default_factory=dict)  # further fields of its outcome, unless it is refused


@dataclass(slots=True)
class Draft:
    payment_id: int
    terms: KindTerms
    ledger: int
    payer_account: int
    payee_account: int  # 0 = not found, or a balance check
    amount_minor: int
    reference: bytes  # bill account, or the number that gets the airtime
    content_hash: int
    signer_account: int  # who enters the PIN, or stands for it: one payment of theirs is decided at a time
    special: Special | None = None
    payee_name: str = ""
    fee: Fee = NO_FEE
    tariff_version: int = 0
    status: PaymentStatus = PaymentStatus.OK
    pin_verdict: PinVerdict = PinVerdict.NOT_CHECKED
    decision: FraudDecision = FraudDecision.NOT_SCORED
    hold: bool = False
    score_ppm: int = 0
    model_version: int = 0
    thresholds_version: int = 0
    reasons: tuple[int, ...] = ()

    @property
    def is_refused(self) -> bool:
        return self.status is not PaymentStatus.OK

    @property
    def moves_money(self) -> bool:
        return self.status is _OK and self.terms.moves_money

    @property
    def final_status(self) -> PaymentStatus:
        """What the record says: the leader's part of the outcome."""
        if self.hold and self.moves_money:
            return PaymentStatus.HELD_FOR_REVIEW
        return self.special.waits_as if self.special is not None and self.moves_money else self.status

    @property
    def reserves_s(self) -> int:
        """For how long the usual legs only reserve; 0 = they move."""
        if self.hold:
            return HOLD_TIMEOUT_S
        return self.special.waits_s if self.special is not None else 0

    def refuse(self, status: PaymentStatus) -> None:
        """Of several broken rules the one that stands first in PaymentStatus is told."""
        if not self.is_refused or status < self.status:
            self.status = status
