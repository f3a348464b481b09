"""The kinds of payment, each described in one place: who pays and gets, who enters the PIN, what the legs are called,
what the fraud model takes it for. The desk, the rules and the plan read these descriptions and know no kind by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from node.ledger.columns import AccountKind
from node.ledger.statuses import PaymentKind, PaymentStatus, TransferCode

_AGENT = frozenset({int(AccountKind.AGENT)})
_MERCHANT = frozenset({int(AccountKind.TILL), int(AccountKind.PAYBILL)})


class Signer(IntEnum):
    """Whose PIN a payment needs. The number stands in the record's flags."""

    PAYER = 0
    PAYEE = 1
    NOBODY = 2


class Agent(IntEnum):
    """Which of the two is the agent whom the operator pays a commission, if the tariff has one."""

    NEITHER = 0
    PAYER = 1
    PAYEE = 2


@dataclass(frozen=True, slots=True)
class KindTerms:
    kind: PaymentKind
    payee_key: str  # the handle that names the payee; "" = the kind finds it in a way of its own
    payee_system: str = ""  # instead: the operator's account of this name in the payment's currency
    payee_is_number: bool = False  # what the request names is a phone number, in any form
    reference_is_payee: bool = False  # the number goes into the record, since the payee is the operator's account
    reference_needed: bool = False
    payer_keys: tuple[str, ...] = ()  # handles by which a payer without a phone may be named
    payer_kinds: frozenset[int] = frozenset()  # of account; empty = any
    not_of_payer_kind: PaymentStatus = PaymentStatus.PAYER_NOT_FOUND
    signer: Signer = Signer.PAYER
    code: TransferCode = TransferCode.PRINCIPAL
    agent: Agent = Agent.NEITHER
    is_priced: bool = True
    priced_as: PaymentKind | None = None  # the tariff's table, where that is another kind's
    too_little: PaymentStatus = PaymentStatus.INSUFFICIENT_FUNDS
    id_is_used: PaymentStatus = PaymentStatus.REFUSED_BY_LEDGER  # what it means that the ledger has a leg's id already
    scored_as: int = 0  # the kind as the fraud model was taught it (fraud/simulate); 0 = not scored
    may_be_held: bool = True  # else what the fraud check would hold is refused
    is_only_watched: bool = False  # the score is noted, and stops nothing: no customer's money leaves
    moves_money: bool = True
    ends_abroad: bool = False  # the last leg is another currency's
    takes_temporary_pin: bool = False
    has_more: bool = False  # the usual draft, and then more
    only_in_batch: bool = False  # a row of what one person has ordered and another approved (bulk_book)
    is_special: bool = False  # the draft is made by a module of its own: payment_reversals and the like


def _by_agent(kind: PaymentKind, payee_key: str) -> KindTerms:
    """Out of an agent's float. A deposit's cash lies on the counter by then: it is watched, for agents cheat, and not
    stopped. The model was never taught that agents send each other float."""
    is_deposit = kind is PaymentKind.CASH_IN
    return KindTerms(
        kind, payee_key, payee_is_number=payee_key == "msisdn", payer_keys=("agent",), payer_kinds=_AGENT,
        not_of_payer_kind=PaymentStatus.PAYER_IS_NO_AGENT, too_little=PaymentStatus.AGENT_HAS_NOT_ENOUGH_FLOAT,
        agent=Agent.PAYER if is_deposit else Agent.NEITHER, scored_as=_SEND if is_deposit else 0, is_only_watched=True,
    )  # fmt: skip


_K = PaymentKind
_SEND, _TILL, _BILL, _AIRTIME = (int(k) for k in (_K.SEND_MONEY, _K.PAY_TILL, _K.PAY_BILL, _K.BUY_AIRTIME))

# The simulated town (fraud/simulate) knows four kinds: deposits, withdrawals, float and pay-outs are sends from and to
# agents and shops there, told apart by the account kinds. So that is what the model is asked about.
_PLAIN = (
    KindTerms(_K.SEND_MONEY, "msisdn", payee_is_number=True, scored_as=_SEND),
    KindTerms(_K.PAY_TILL, "till", scored_as=_TILL),
    KindTerms(_K.PAY_BILL, "paybill", reference_needed=True, scored_as=_BILL),
    KindTerms(
        _K.BUY_AIRTIME, "", payee_system="airtime", payee_is_number=True, reference_is_payee=True,
        code=TransferCode.AIRTIME, scored_as=_AIRTIME,
    ),
    _by_agent(_K.CASH_IN, "msisdn"),
    KindTerms(_K.CASH_OUT, "agent", agent=Agent.PAYEE, scored_as=_SEND),
    _by_agent(_K.AGENT_FLOAT, "agent"),
    KindTerms(
        _K.MERCHANT_PAYOUT, "msisdn", payee_is_number=True, payer_keys=("till", "paybill"), payer_kinds=_MERCHANT,
        not_of_payer_kind=PaymentStatus.PAYER_IS_NO_MERCHANT, scored_as=_SEND,
    ),
    KindTerms(
        _K.SEND_TO_UNREGISTERED, "", payee_system="vouchers", payee_is_number=True, reference_is_payee=True,
        code=TransferCode.VOUCHER, scored_as=_SEND, may_be_held=False, has_more=True,
    ),
    # Not scored: two persons have looked at it, and no town has paid salaries that the model could have learned from.
    KindTerms(
        _K.BULK_PAYOUT, "msisdn", payee_is_number=True, payer_keys=("paybill", "till"), payer_kinds=_MERCHANT,
        not_of_payer_kind=PaymentStatus.PAYER_IS_NO_MERCHANT, signer=Signer.NOBODY, only_in_batch=True,
    ),
)  # fmt: skip
_NO_MONEY = PaymentStatus.RECEIVER_HAS_NOT_THE_MONEY


AIRTIME_WAITS_S = 7 * 24 * 3_600  # for a provider; then the payer has the money back and the operator a question
AIRTIME_BY_PROVIDER = replace(
    next(terms for terms in _PLAIN if terms.kind is _K.BUY_AIRTIME), may_be_held=False, has_more=True
)


def _reversal(kind: PaymentKind, signer: Signer, keys: tuple[str, ...] = ()) -> KindTerms:
    """From the original's payee to its payer."""
    return KindTerms(
        kind, "msisdn", payer_keys=keys, signer=signer, code=TransferCode.REVERSAL, is_priced=False,
        too_little=_NO_MONEY, id_is_used=PaymentStatus.ANOTHER_REVERSAL_CAME_BETWEEN, is_special=True,
    )  # fmt: skip


def _redemption(signer: Signer) -> KindTerms:
    """From the operator's account for vouchers. Free: the sender has paid for it."""
    return KindTerms(
        _K.REDEEM_VOUCHER, "agent", payer_kinds=_AGENT, not_of_payer_kind=PaymentStatus.PAYER_IS_NO_AGENT,
        signer=signer, agent=Agent.PAYEE if signer is Signer.PAYEE else Agent.NEITHER,
        is_priced=signer is Signer.PAYEE, id_is_used=PaymentStatus.VOUCHER_ALREADY_REDEEMED, is_special=True,
    )  # fmt: skip


def _pay_request(priced_as: PaymentKind, payee_key: str) -> KindTerms:
    """Paid as the merchant who asks is paid otherwise."""
    return KindTerms(
        _K.PAY_REQUEST, payee_key, priced_as=priced_as, scored_as=int(priced_as),
        id_is_used=PaymentStatus.REQUEST_ALREADY_PAID, is_special=True,
    )  # fmt: skip


PAY_REQUEST_OF_TILL, PAY_REQUEST_OF_BILLER = _pay_request(_K.PAY_TILL, "till"), _pay_request(_K.PAY_BILL, "paybill")
REMITTANCE = KindTerms(
    _K.REMITTANCE, "", payee_is_number=True, reference_is_payee=True, scored_as=_SEND, ends_abroad=True, is_special=True
)
VOUCHER_TO_ACCOUNT = _redemption(Signer.NOBODY)
REVERSAL_BY_PAYER = _reversal(_K.REVERSAL, Signer.PAYEE)
REVERSAL_BY_OPERATOR = _reversal(_K.REVERSAL, Signer.NOBODY)
CHECK_BALANCE = KindTerms(_K.CHECK_BALANCE, "", is_priced=False, moves_money=False)
OF_OWN_ACCOUNT = KindTerms(_K.CHECK_BALANCE, "", is_priced=False, moves_money=False, takes_temporary_pin=True)
"""A new PIN, or blocking one's account: a command logged with the PIN's verdict, recorded as a balance check."""

KINDS: dict[int, KindTerms] = {
    int(terms.kind): terms
    for terms in (
        *_PLAIN,
        _reversal(_K.REVERSAL, Signer.PAYER, ("agent", "till", "paybill")),
        _reversal(_K.REFUND, Signer.PAYER, ("till", "paybill")),
        _redemption(Signer.PAYEE),
        PAY_REQUEST_OF_TILL,
        REMITTANCE,
    )
}
_RARE = (REVERSAL_BY_PAYER, REVERSAL_BY_OPERATOR, VOUCHER_TO_ACCOUNT)
_OF_OTHERS = {(int(terms.kind), int(terms.signer)): terms for terms in _RARE}


def terms_of(kind: int, signer: int) -> KindTerms:
    """Of a stored payment."""
    return _OF_OTHERS.get((kind, signer)) or KINDS.get(kind, CHECK_BALANCE)
