"""The journeys, screen by screen, as text files that a person can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ussd_edge.golden import journeys, written_anew


@pytest.mark.parametrize("path", journeys(), ids=lambda path: path.stem)
def test_a_journey_shows_these_screens(path: Path) -> None:
    stored = path.read_text(encoding="utf-8")
    prose, _, rest = stored.partition("\n\n")
    assert len(prose) > 40, "a journey opens with what happens in it"
    assert rest.startswith(">\nCON Kibubu"), "it begins with the dialling"
    assert written_anew(stored) == stored, "`python -m tests.ussd_edge.golden` writes it anew; then read the difference"


def test_the_five_journeys_are_there_and_a_changed_screen_is_found() -> None:
    names = {path.stem for path in journeys()}
    assert {"send-money", "pay-till", "pay-bill", "airtime-own", "airtime-other", "balance"} <= names
    stored = journeys()[0].read_text(encoding="utf-8")
    assert written_anew(stored.replace("Kibubu", "Kibubo", 1)) == stored
