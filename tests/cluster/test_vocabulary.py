"""The commands' own few numbers are the ledger's."""

from __future__ import annotations

from cluster import accounts, vocabulary
from node.ledger import columns, statuses
from node.ledger.columns import AccountFlag
from node.service import codec


def test_the_numbers_are_the_ledgers() -> None:
    assert vocabulary.STATUS_OK == statuses.Status.OK
    assert vocabulary.COMMAND_OK == statuses.CommandStatus.OK
    assert vocabulary.COMMAND_EXISTS == statuses.CommandStatus.EXISTS
    assert vocabulary.CODE_ISSUE == statuses.TransferCode.ISSUE
    assert vocabulary.CODE_PRINCIPAL == statuses.TransferCode.PRINCIPAL
    assert vocabulary.DEBITS_MUST_NOT_EXCEED_CREDITS == AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    assert vocabulary.STATUS_NOT_FOUND == codec.NOT_FOUND
    assert accounts.HANDLE_KEYS == columns.HANDLE_KEYS
    for kind in vocabulary.AccountKind:
        assert columns.AccountKind[kind.name] == kind
    for name in ("CODE_OPERATOR", "CODE_BENCH", "CODE_CHAOS"):
        assert getattr(vocabulary, name) > 1_000  # the platform's own codes lie below
