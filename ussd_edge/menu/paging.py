"""Lists that are longer than a screen: as many lines as fit, then `98` for more. The numbers of the choices go on from
page to page, so a choice is the same on each."""

from __future__ import annotations

from collections.abc import Sequence

from ussd_edge.septets import SCREEN_SEPTETS_MAX, length, shortened

NEXT = "98"
LINE_SEPTETS_MAX = 40


def pages(title: str, lines: Sequence[str], more: str, footer: str, *, reserve: int = 0) -> list[str]:
    """GSM texts of at most one screen, less `reserve` septets for a complaint above; always at least one. The title and
    the footer stand on each; too long a line is cut."""
    cut = [shortened(line, LINE_SEPTETS_MAX) for line in lines]
    room = SCREEN_SEPTETS_MAX - reserve - length(title + footer)
    more_line = f"\n{NEXT} {more}"
    found: list[str] = []
    taken = 0
    while not found or taken < len(cut):
        body = "".join(f"\n{line}" for line in cut[taken:])
        if length(body) <= room:
            return [*found, f"{title}{body}{footer}"]
        body = ""
        while length(f"{body}\n{cut[taken]}{more_line}") <= room:
            body += f"\n{cut[taken]}"
            taken += 1
        if not body:
            raise ValueError("title and footer leave no room for a line")
        found.append(f"{title}{body}{more_line}{footer}")
    return found
