"""Pictures as SVG text: an account's balance over time, and who paid whom. Pure; colours and lines are in page.css."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from kibubu.review.v1 import review_pb2

WIDTH, HEIGHT, MARGIN = 640, 160, 12
GRAPH, RING, DOT = 460, 165, 7
NAME_LETTERS_MAX = 16


def history(items: Sequence[review_pb2.HistoryItem], label: str) -> str:
    """Newest first, as ReviewService gives them: the balance as steps; a dot for each payment, filled if money came."""
    if not items:
        return "<p>nothing yet</p>"
    rows = list(reversed(items))
    first_ns, last_ns = rows[0].timestamp_ns, rows[-1].timestamp_ns
    most = max(1, *(item.balance_after_minor for item in rows))
    points = [
        (
            MARGIN + (WIDTH - 2 * MARGIN) * ((item.timestamp_ns - first_ns) / max(1, last_ns - first_ns)),
            HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * max(0, item.balance_after_minor) / most,
        )
        for item in rows
    ]
    line = f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])
    dots = "".join(
        f'<circle class="{"out" if item.is_debit else "in"}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
        f"<title>{_said(item)}</title></circle>"
        for item, (x, y) in zip(rows, points, strict=True)
    )
    return (
        f'<svg class="history" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f'<path class="balance" d="{line}"/>{dots}</svg>'
    )


def _said(item: review_pb2.HistoryItem) -> str:
    sign = "-" if item.is_debit else "+"
    return escape(f"{sign}{item.amount_minor / 100:,.2f} {item.other_name}, then {item.balance_after_minor / 100:,.2f}")


def links(found: Sequence[review_pb2.Link], payer: int, payee: int) -> str:
    """Accounts on a ring, payer at the left and payee at the right; an arrow's width follows the sum."""
    names: dict[int, str] = {}
    for link in found:
        names.setdefault(link.from_account, link.from_name)
        names.setdefault(link.to_account, link.to_name)
    if not names:
        return "<p>no payments between them or around them</p>"
    places = _places(list(names), payer, payee)
    most = max(link.amount_minor for link in found)
    arrows = "".join(_arrow(link, places, most) for link in found)
    dots = "".join(
        f'<g class="{_role(account, payer, payee)}"><circle cx="{x:.0f}" cy="{y:.0f}" r="{DOT}"/>'
        f'<text x="{x:.0f}" y="{y - 12:.0f}">{escape(names[account][:NAME_LETTERS_MAX])}</text></g>'
        for account, (x, y) in places.items()
    )
    return (
        f'<svg class="links" viewBox="0 0 {GRAPH} {GRAPH}" role="img" aria-label="who paid whom">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" markerHeight="5" orient="auto">'
        f'<path d="M0 0L8 4L0 8z"/></marker></defs>{arrows}{dots}</svg>'
    )


def _places(accounts: list[int], payer: int, payee: int) -> dict[int, tuple[float, float]]:
    others = [account for account in accounts if account not in (payer, payee)]
    upper = others[: (len(others) + 1) // 2]
    lower = others[len(upper) :]
    ring = [payer, *upper, payee, *lower]
    step = 2 * math.pi / len(ring)
    middle = GRAPH / 2
    return {
        account: (middle - RING * math.cos(number * step), middle - RING * math.sin(number * step))
        for number, account in enumerate(ring)
    }


def _arrow(link: review_pb2.Link, places: dict[int, tuple[float, float]], most: int) -> str:
    (x1, y1), (x2, y2) = places[link.from_account], places[link.to_account]
    far = math.hypot(x2 - x1, y2 - y1) or 1.0
    x2, y2 = x2 - (x2 - x1) * (DOT + 3) / far, y2 - (y2 - y1) * (DOT + 3) / far
    bend = 0.12  # so that an arrow and its return do not lie upon each other
    middle = (x1 + x2) / 2 + (y2 - y1) * bend, (y1 + y2) / 2 - (x2 - x1) * bend
    width = 1 + 4 * link.amount_minor / most
    told = escape(f"{link.from_name} paid {link.to_name} {link.amount_minor / 100:,.2f} in {link.payments} payment(s)")
    return (
        f'<path class="paid" d="M{x1:.0f} {y1:.0f}Q{middle[0]:.0f} {middle[1]:.0f} {x2:.0f} {y2:.0f}" '
        f'stroke-width="{width:.1f}" marker-end="url(#tip)"><title>{told}</title></path>'
    )


def _role(account: int, payer: int, payee: int) -> str:
    return "payer" if account == payer else "payee" if account == payee else "other"
