"""What the review commands show: a queue, one held payment with the recent life of both accounts, a verdict."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

from kibubu.review.v1 import review_pb2, review_pb2_grpc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.calls import Caller, CallError
from cluster.money import format_minor
from cluster.vocabulary import STATUS_OK
from fraud.words import WORDS

_BARS = " ▁▂▃▄▅▆▇█"
ANALYST_BYTES_MAX = 20
VERDICTS = {review_pb2.VERDICT_RELEASE: "release", review_pb2.VERDICT_REFUSE: "refuse"}
STATES = {
    review_pb2.REVIEW_STATE_WAITING: "waiting",
    review_pb2.REVIEW_STATE_RELEASED: "released",
    review_pb2.REVIEW_STATE_REFUSED: "refused",
    review_pb2.REVIEW_STATE_EXPIRED: "expired",
}


def payment_id_of(text: str) -> bytes:
    """Raises CallError: an id is 32 hexadecimal digits, as the queue shows it."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise CallError(f"ID: must be 32 hexadecimal digits as the queue shows them, is {text!r}")
    return raw


def analyst_name(name: str | None) -> str:
    """The given name, or the user's; cut to what a transfer can say."""
    return (name or getpass.getuser()).encode()[:ANALYST_BYTES_MAX].decode(errors="ignore")


def queue(caller: Caller, size: int) -> tuple[Table, int]:
    answer = caller.leader(
        lambda channel: review_pb2_grpc.ReviewServiceStub(channel).ListHeldPayments,
        review_pb2.ListHeldPaymentsRequest(page_size=size),
    )
    table = Table("payment", "held", "left", "from", "to", "amount", "score", "because", title_justify="left")
    now_ns = datetime.now(UTC).timestamp() * 1e9
    for held in answer.payments:
        left_h = (held.expire_time_ns - now_ns) / 3.6e12
        table.add_row(
            held.payment_id.hex(), _time(held.held_time_ns), f"{left_h:.1f} h", held.payer.name, held.payee.name,
            f"{held.currency} {format_minor(held.amount_minor)}", _score(held), _because(held),
        )  # fmt: skip
    return table, answer.waiting_total


def show(caller: Caller, payment_id: bytes) -> RenderableType:
    answer = caller.leader(
        lambda channel: review_pb2_grpc.ReviewServiceStub(channel).GetHeldPayment,
        review_pb2.GetHeldPaymentRequest(payment_id=payment_id),
    )
    if not answer.found:
        raise CallError(f"no held payment has the id {payment_id.hex()}")
    held = answer.payment
    state = STATES.get(held.state, "?") + (f" by {held.analyst}" if held.analyst else "")
    lines = [
        f"{held.payment_id.hex()}  {state}",
        f"{held.currency} {format_minor(held.amount_minor)} and a fee of {format_minor(held.fee_minor)}, "
        f"held {_time(held.held_time_ns)}, ends by itself {_time(held.expire_time_ns)}",
        f"score {_score(held)}, model {held.model_version or 'none'}",
        *(f"  - {WORDS.get(reason, reason)}" for reason in held.reasons),
        f"{held.analysts_needed} must agree" + "".join(_said(opinion) for opinion in held.opinions),
    ]
    return Group(
        "\n".join(lines),
        _account("payer", held.payer, list(answer.payer_history)),
        _account("payee", held.payee, list(answer.payee_history)),
    )


def decide(
    caller: Caller, payment_id: bytes, verdict: review_pb2.Verdict.ValueType, analyst: str, comment: str = ""
) -> str:
    """One line that says what became of it. Raises CallError when it was decided otherwise before."""
    answer = caller.leader(
        lambda channel: review_pb2_grpc.ReviewServiceStub(channel).DecideHeldPayment,
        review_pb2.DecideHeldPaymentRequest(payment_id=payment_id, verdict=verdict, analyst=analyst, comment=comment),
    )
    if answer.analysts_missing:
        return f"{analyst} says {VERDICTS[verdict]}; {answer.analysts_missing} other analyst must agree"
    state = STATES.get(answer.state, "?")
    if answer.status != STATUS_OK:
        raise CallError(f"{answer.status_name}: the payment is {state} already; nothing was changed")
    return f"{state} by {analyst}" + (" (it was so before)" if answer.duplicate else f", position {answer.position}")


def _account(role: str, party: review_pb2.Party, history: list[review_pb2.HistoryItem]) -> RenderableType:
    table = Table("when", "amount", "with", "balance after", title_justify="left")
    table.title = (
        f"{role} {party.name} {party.handle}, account {party.account_number}, since {_time(party.create_time_ns)}, "
        f"balance {format_minor(party.balance_minor)}, free {format_minor(party.available_minor)}"
    )
    for item in history[:12]:
        sign = "-" if item.is_debit else "+"
        reserved = " reserved" if item.is_pending else ""
        table.add_row(
            _time(item.timestamp_ns), f"{sign}{format_minor(item.amount_minor)}{reserved}",
            item.other_name or str(item.other_account), format_minor(item.balance_after_minor),
        )  # fmt: skip
    return Group("", table, Text("balance, oldest to newest: " + spark([i.balance_after_minor for i in history[::-1]])))


def spark(values: list[int]) -> str:
    """A line of bars, one a value."""
    if not values:
        return ""
    most = max(max(values), 1)
    return "".join(_BARS[max(0, min(8, round(8 * value / most)))] for value in values)


def _said(opinion: review_pb2.Opinion) -> str:
    comment = f": {opinion.comment}" if opinion.comment else ""
    return f"\n  - {opinion.analyst} says {VERDICTS.get(opinion.verdict, '?')}{comment}"


def _because(held: review_pb2.HeldPayment) -> str:
    return WORDS.get(held.reasons[0], held.reasons[0]) if held.reasons else "not scored"


def _score(held: review_pb2.HeldPayment) -> str:
    return f"{held.score_ppm / 1e6:.3f}"


def _time(timestamp_ns: int) -> str:
    return datetime.fromtimestamp(timestamp_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
