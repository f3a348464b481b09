"""Long lists: every line once, in order, each page one screen, the way on and the way back on each that needs it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ussd_edge.menu.paging import LINE_SEPTETS_MAX, pages
from ussd_edge.septets import SCREEN_SEPTETS_MAX, length

FOOTER = "\n0 Back\n00 Home"
LINES = st.lists(st.text(alphabet="abcé€^ ", min_size=1, max_size=60), max_size=40)


@given(LINES, st.integers(0, 60))
def test_every_line_is_on_one_page_and_every_page_fits(lines: list[str], reserve: int) -> None:
    numbered = [f"{n} {line}" for n, line in enumerate(lines, 1)]
    found = pages("Choose", numbered, "More", FOOTER, reserve=reserve)
    shown = []
    for at, page in enumerate(found):
        assert length(page) + reserve <= SCREEN_SEPTETS_MAX
        title, *body = page.removesuffix(FOOTER).split("\n")
        assert title == "Choose"
        assert page.endswith(FOOTER)
        if at < len(found) - 1:
            assert body.pop() == "98 More"
        assert body or not lines
        shown += body
    assert len(shown) == len(lines)
    for line, whole in zip(shown, numbered, strict=True):
        assert length(line) <= LINE_SEPTETS_MAX
        assert line == whole or (line.endswith("..") and whole.startswith(line[:-2]))


def test_a_footer_that_leaves_no_room_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no room"):
        pages("Choose", ["1 a", "2 b"], "More", "x" * 170)
