"""Documents as the ledger applies them: versions count on, nothing is taken back, and all nodes can compare them."""

from __future__ import annotations

import pytest
from kibubu.raft.v1 import raft_pb2

from node.ledger.documents import BODY_BYTES_MAX
from node.ledger.history import CommandOutcome
from node.ledger.statuses import CommandStatus
from tests.ledger.building import START_NS, command, commands_entry
from tests.ledger.plain_history import PlainLedger


def put(ledger: PlainLedger, body: bytes = b"fees", request_id: int = 0, **fields: object) -> CommandOutcome:
    what = {"kind": "tariff", "key": "KES", "author": "Amina"} | fields
    document = raft_pb2.PutDocument(body=body, **what)  # type: ignore[arg-type]
    return ledger.apply(commands_entry([command(request_id, put_document=document)])).command_outcomes[0]


def test_the_newest_version_is_in_force_and_the_older_ones_stay() -> None:
    ledger = PlainLedger()
    outcomes = [put(ledger, body) for body in (b"one", b"two", b"")]
    assert [outcome.account_number for outcome in outcomes] == [1, 2, 3]
    assert [one.body for one in ledger.history.documents["tariff", "KES"]] == [b"one", b"two", b""]
    found = ledger.history.document("tariff", "KES")
    assert found is not None
    assert (found.version, found.position, found.author) == (3, 3, "Amina")
    assert found.timestamp_ns >= START_NS


def test_kinds_and_keys_are_apart() -> None:
    ledger = PlainLedger()
    for kind, key in (("tariff", "KES"), ("tariff", "UGX"), ("rates", "KES")):
        assert put(ledger, kind=kind, key=key).account_number == 1


def test_a_retry_makes_no_second_version() -> None:
    ledger = PlainLedger()
    first, again = put(ledger, request_id=7_000), put(ledger, request_id=7_000)
    assert (first.status, again.status, again.account_number) == (CommandStatus.OK, CommandStatus.EXISTS, 1)
    assert put(ledger, b"other", 7_000).status is CommandStatus.REQUEST_ID_USED_FOR_ANOTHER_REQUEST
    assert len(ledger.history.documents["tariff", "KES"]) == 1


def test_two_authors_who_saw_the_same_version_do_not_overwrite_each_other() -> None:
    ledger = PlainLedger()
    assert put(ledger, replaces_version=0).status is CommandStatus.OK
    assert put(ledger, replaces_version=1, author="Baraka").status is CommandStatus.OK
    late = put(ledger, replaces_version=1, author="Chausiku")
    assert (late.status, late.account_number) == (CommandStatus.DOCUMENT_VERSION_DIFFERS, 2)


@pytest.mark.parametrize(("size", "status"), [(0, "OK"), (BODY_BYTES_MAX, "OK"), (BODY_BYTES_MAX + 1, "TOO_LARGE")])
def test_the_largest_body(size: int, status: str) -> None:
    assert put(PlainLedger(), bytes(size)).status.name.endswith(status)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"kind": "k" * 32, "key": "k" * 64, "author": "a" * 64}, CommandStatus.OK),
        ({"kind": "k" * 33}, CommandStatus.DOCUMENT_KIND_MALFORMED),
        ({"kind": ""}, CommandStatus.DOCUMENT_KIND_MALFORMED),
        ({"key": "k" * 65}, CommandStatus.DOCUMENT_KEY_MALFORMED),
        ({"key": "a\0b"}, CommandStatus.DOCUMENT_KEY_MALFORMED),
        ({"author": "a" * 65}, CommandStatus.DOCUMENT_AUTHOR_MALFORMED),
    ],
)
def test_bounds_of_the_names(fields: dict[str, object], status: CommandStatus) -> None:
    assert put(PlainLedger(), **fields).status is status


def test_the_state_hash_tells_another_body_and_another_answer() -> None:
    def hash_after(*bodies: bytes, **fields: object) -> bytes:
        ledger = PlainLedger()
        for number, body in enumerate(bodies):
            put(ledger, body, 8_000 + number, **fields)
        return ledger.state.state_hash()

    assert hash_after(b"one", b"two") == hash_after(b"one", b"two")
    others = (hash_after(b"one", b"twp"), hash_after(b"two", b"one"), hash_after(b"one"), hash_after(b"one", author=""))
    assert len({hash_after(b"one", b"two"), *others}) == 5
