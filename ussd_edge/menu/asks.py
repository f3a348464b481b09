"""What the menu wants to know or to have done, and what it shows: the line between the pure menu and the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from ussd_edge.septets import SCREEN_SEPTETS_MAX, shortened


class Kind(IntEnum):
    """The numbers of kibubu.payments.v1.PaymentKind."""

    SEND_MONEY = 1
    PAY_TILL = 2
    PAY_BILL = 3
    BUY_AIRTIME = 4
    SEND_TO_UNREGISTERED = 6
    CASH_IN = 7
    CASH_OUT = 8
    AGENT_FLOAT = 9
    MERCHANT_PAYOUT = 10
    REDEEM_VOUCHER = 11
    REVERSAL = 12
    REFUND = 13
    PAY_REQUEST = 15


@dataclass(frozen=True, slots=True)
class Order:
    """What a person wants to be paid. `original`: the receipt of what is to go back, or of the voucher that is to be
    paid out with its `secret`; then no amount = all of it."""

    kind: Kind
    payee: str
    amount_minor: int
    reference: str = ""
    original: str = ""
    secret: str = ""
    request: int = 0  # the customer's number of a request to pay, which says all the rest


@dataclass(frozen=True, slots=True)
class AskQuote:
    order: Order


@dataclass(frozen=True, slots=True)
class AskPay:
    """`step` is the place of the PIN among the session's inputs: the same step is the same payment."""

    order: Order
    pin: str
    step: int


@dataclass(frozen=True, slots=True)
class AskBalance:
    """`recent`: how many of the last payments are wanted, too."""

    pin: str
    step: int
    recent: int = 0


@dataclass(frozen=True, slots=True)
class AskWaiting:
    """Which requests to pay wait for this phone."""


@dataclass(frozen=True, slots=True)
class AskRefuse:
    """That a request to pay is refused."""

    request: int


@dataclass(frozen=True, slots=True)
class AskForPayment:
    """A business asks a customer to pay; the same step is the same request."""

    payer: str
    amount_minor: int
    step: int


@dataclass(frozen=True, slots=True)
class AskChangePin:
    pin: str
    new_pin: str
    step: int


@dataclass(frozen=True, slots=True)
class AskBlock:
    """That nothing leaves the account of this number any more; the PIN is that account's."""

    number: str
    pin: str
    step: int


Ask = AskChangePin | AskBlock | AskQuote | AskPay | AskBalance | AskWaiting | AskRefuse | AskForPayment


@dataclass(frozen=True, slots=True)
class Recent:
    """A payment that was: below zero, it went out."""

    timestamp_ns: int
    amount_minor: int
    name: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request to pay that is open."""

    number: int
    name: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is a PaymentStatus name, or UNKNOWN or NOT_APPLIED where there was no answer."""

    status: str
    payee_name: str = ""
    fee_minor: int = 0
    balance_minor: int = 0
    available_minor: int = 0
    tries_left: int = 0
    receipt: str = ""
    recent: tuple[Recent, ...] = ()
    amount_minor: int = 0  # where the order names none: what a reversal is of
    secret: str = ""  # of a voucher
    waiting: tuple[Waiting, ...] = ()


UNKNOWN, NOT_APPLIED = "unknown", "not_applied"


@dataclass(frozen=True, slots=True)
class Screen:
    text: str
    ends: bool
    outcome: str  # for the metrics: continue, or how it ended
    path: tuple[str, ...] = field(default=(), compare=False)  # the inputs that led here, without PINs
    language: str = ""
    depth: int = 0  # how many of them count: 0 = the main menu

    @property
    def fitted(self) -> str:
        """The text as every phone can show it, within one screen."""
        return shortened(self.text, SCREEN_SEPTETS_MAX)
