"""The pages as HTML text. Pure; everything that comes from people or from the ledger is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from kibubu.review.v1 import review_pb2

from fraud.review_page import pictures
from fraud.review_page.logins import Login
from fraud.words import WORDS

COMMENT_BYTES_MAX = 500
STATES = {
    review_pb2.REVIEW_STATE_WAITING: "waiting",
    review_pb2.REVIEW_STATE_RELEASED: "released",
    review_pb2.REVIEW_STATE_REFUSED: "refused",
    review_pb2.REVIEW_STATE_EXPIRED: "expired",
}
VERDICTS = {review_pb2.VERDICT_RELEASE: "release", review_pb2.VERDICT_REFUSE: "refuse"}


def login(message: str) -> str:
    return _page(
        "Log in",
        f'<p class="message" role="alert">{escape(message)}</p>'
        '<form method="post" action="/login"><label>Your token <input type="password" name="token" required '
        'autocomplete="off" autofocus maxlength="100"></label> <button>Log in</button></form>'
        "<p>No token yet? <code>kibubu fraud analyst NAME</code> makes one.</p>",
    )


def queue(who: Login, held: Sequence[review_pb2.HeldPayment], total: int, now_ns: int) -> str:
    rows = "".join(
        f'<tr><td><a href="/payments/{one.payment_id.hex()}">{one.payment_id.hex()[:8]}</a></td>'
        f"<td>{_time(one.held_time_ns)}</td><td>{(one.expire_time_ns - now_ns) / 3.6e12:.1f} h</td>"
        f"<td>{escape(one.payer.name)}</td><td>{escape(one.payee.name)}</td>"
        f'<td class="number">{escape(one.currency)} {_money(one.amount_minor)}</td>'
        f'<td class="number">{one.score_ppm / 1e6:.3f}</td>'
        f"<td>{escape(_reason(one.reasons[0]) if one.reasons else 'not scored')}</td>"
        f"<td>{len(one.opinions)} of {one.analysts_needed}</td></tr>"
        for one in held
    )
    return _page(
        "Held payments",
        f'<p id="total">{total} waiting</p><table id="queue"><thead><tr><th>payment<th>held<th>left<th>from<th>to'
        f"<th>amount<th>score<th>because<th>opinions</tr></thead><tbody>{rows}</tbody></table>",
        who,
    )


def payment(who: Login, answer: review_pb2.GetHeldPaymentResponse, message: str = "") -> str:
    held = answer.payment
    reasons = "".join(f"<li>{escape(_reason(reason))}</li>" for reason in held.reasons) or "<li>not scored</li>"
    opinions = "".join(
        f"<li>{escape(one.analyst)} says {VERDICTS.get(one.verdict, '?')}: {escape(one.comment)}</li>"
        for one in held.opinions
    )
    state = STATES.get(held.state, "?") + (f" by {held.analyst}" if held.analyst else "")
    waits = held.state == review_pb2.REVIEW_STATE_WAITING
    return _page(
        f"Payment {held.payment_id.hex()[:8]}",
        f'<p class="message" role="status">{escape(message)}</p>'
        f'<p><b id="state">{escape(state)}</b>: {escape(held.currency)} {_money(held.amount_minor)} and a fee of '
        f"{_money(held.fee_minor)} from {_party(held.payer)} to {_party(held.payee)}, held {_time(held.held_time_ns)}, "
        f"ends by itself {_time(held.expire_time_ns)}. Score {held.score_ppm / 1e6:.3f}, model "
        f"{escape(held.model_version or 'none')}.</p>"
        f'<h2>Why</h2><ul id="reasons">{reasons}</ul>'
        f'<h2>What analysts say</h2><p>{held.analysts_needed} must agree.</p><ul id="opinions">{opinions}</ul>'
        + (_verdict_form(who, held) if waits else "")
        + _account("Payer", held.payer, answer.payer_history)
        + _account("Payee", held.payee, answer.payee_history)
        + "<h2>Who paid whom around them</h2>"
        + pictures.links(answer.links, held.payer.account_number, held.payee.account_number),
        who,
    )


def _verdict_form(who: Login, held: review_pb2.HeldPayment) -> str:
    return (
        f'<form method="post" action="/payments/{held.payment_id.hex()}" id="verdict">{_hidden(who)}'
        f'<label>Why <input name="comment" maxlength="{COMMENT_BYTES_MAX}" size="60"></label> '
        '<button name="verdict" value="release">Release: the money goes</button> '
        '<button name="verdict" value="refuse">Refuse: the money stays</button></form>'
    )


def _account(role: str, party: review_pb2.Party, items: Sequence[review_pb2.HistoryItem]) -> str:
    return (
        f"<h2>{role} {_party(party)}</h2><p>Account {party.account_number}, since {_time(party.create_time_ns)}; "
        f"balance {_money(party.balance_minor)}, free {_money(party.available_minor)}. "
        f"The last {len(items)} payments:</p>" + pictures.history(items, f"balance of {party.name}")
    )


def error(status: int, message: str, who: Login | None = None) -> str:
    return _page(str(status), f'<p class="message" role="alert">{escape(message)}</p>', who)


def _page(title: str, body: str, who: Login | None = None) -> str:
    head = (
        f'<form method="post" action="/logout">{_hidden(who)}<a href="/">Held payments</a> '
        f'<span id="analyst">{escape(who.analyst)}</span> <button>Log out</button></form>'
        if who is not None
        else ""
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} - Kibubu review</title>'
        f'<link rel="stylesheet" href="/page.css"><link rel="icon" href="data:,"></head>'
        f"<body><header>{head}</header><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )


def _hidden(who: Login) -> str:
    return f'<input type="hidden" name="form_token" value="{escape(who.form_token)}">'


def _party(party: review_pb2.Party) -> str:
    return escape(f"{party.name} {party.handle}".strip() or f"account {party.account_number}")


def _reason(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))


def _money(amount_minor: int) -> str:
    return f"{amount_minor / 100:,.2f}"


def _time(timestamp_ns: int) -> str:
    return datetime.fromtimestamp(timestamp_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
