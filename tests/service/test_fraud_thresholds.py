"""Thresholds as a document: what is left out is as by default, and what is wrong is named."""

from __future__ import annotations

import pytest

from node.ledger.fraud_costs import Costs
from node.service.document_kinds import KINDS
from node.service.fraud_thresholds import KIND, Thresholds, check_document, thresholds_from


def test_a_document_changes_what_it_names() -> None:
    read = thresholds_from(b"alert_from = 0.2\ntwo_person_above_minor = 100", 4)
    assert read == Thresholds(4, Costs(alert_from=0.2), 100)
    assert (read.analysts_needed(100), read.analysts_needed(101)) == (1, 2)
    assert thresholds_from(read.to_toml().encode(), 4) == read
    assert thresholds_from(b"") == Thresholds()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"\xff", "body: must be TOML"),
        (b"loss_share", "body: must be TOML"),
        (b"nonsense = 1", "nonsense: unknown"),
        (b"loss_share = 1.5", "loss_share: must be at most 1"),
        (b"wrong_hold_minor = -1", "wrong_hold_minor: must be a number from 0"),
        (b"wrong_hold_minor = nan", "wrong_hold_minor: must be a number from 0"),
        (b"two_person_above_minor = 1.5", "two_person_above_minor: must be a whole number"),
        (b"two_person_above_minor = true", "two_person_above_minor: must be a whole number"),
    ],
)
def test_a_wrong_document_is_refused(body: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_document("", body)


@pytest.mark.parametrize("kind", [KIND, "fraud_rules"])
def test_there_is_one_document_for_all(kind: str) -> None:
    assert KINDS[kind]("", b"") == KINDS[kind]("all", b"") == "all"
    with pytest.raises(ValueError, match="key: must be all"):
        KINDS[kind]("KES", b"")
