"""The client against real servers that lead, do not lead, break, stall and refuse: it never guesses what happened."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest
from kibubu.payments.v1 import payments_pb2

from kibubu_client import Client, InvalidRequestError, NotAppliedError, TlsFiles, UnknownOutcomeError, id_bytes, new_id
from kibubu_client.client import PAYMENT_CALLS_IN_FLIGHT_MAX
from kibubu_client.records import BATCH_TRANSFERS_MAX, LINKED, pack_transfer
from tests.kibubu_client.scripted import (
    BREAKS,
    FORBIDDEN,
    FULL,
    INVALID,
    LATE,
    NOT_LEADER,
    OK,
    ScriptedNode,
)

UNAVAILABLE, DEADLINE, INVALID_CODE, EXHAUSTED = 14, 4, 3, 8


def packed(number: int, flags: int = 0) -> bytes:
    return pack_transfer(number, 1, 2, 5, ledger=404, code=9, flags=flags)


def payment(payment_id: bytes = b"", amount_minor: int = 500) -> payments_pb2.MakePaymentRequest:
    return payments_pb2.MakePaymentRequest(
        payment=payments_pb2.Payment(payment_id=payment_id or id_bytes(new_id()), amount_minor=amount_minor)
    )


async def test_a_follower_names_the_leader_and_the_client_stays_with_it(
    client: Client, nodes: list[ScriptedNode]
) -> None:
    nodes[0].script, nodes[0].leader = deque([NOT_LEADER]), nodes[2].address
    for number in (1, 2, 3):
        assert (await client.create_transfers(packed(number)))["position"].tolist() == [number]
    assert [len(node.batches) for node in nodes] == [1, 0, 3]


async def test_without_a_hint_the_others_are_asked_in_turn(client: Client, nodes: list[ScriptedNode]) -> None:
    nodes[0].script = nodes[1].script = deque([NOT_LEADER])
    await client.create_transfers(packed(1))
    assert [len(node.batches) for node in nodes] == [1, 1, 1]


async def test_a_hint_that_nobody_knows_is_not_followed(client: Client, nodes: list[ScriptedNode]) -> None:
    nodes[0].script, nodes[0].leader = deque([NOT_LEADER]), "203.0.113.1:1"
    await client.create_transfers(packed(1))
    assert [len(node.batches) for node in nodes] == [1, 1, 0]


async def test_two_that_name_each_other_are_not_asked_without_pause(client: Client, nodes: list[ScriptedNode]) -> None:
    for node, other in ((nodes[0], nodes[1]), (nodes[1], nodes[0])):
        node.script, node.leader = deque([NOT_LEADER]), other.address
    with pytest.raises(NotAppliedError):
        await client.create_transfers(packed(1))
    assert sum(len(node.batches) for node in nodes) < 25  # in a second; without a pause it is hundreds


@pytest.mark.parametrize("word", [BREAKS, LATE, NOT_LEADER, FULL])
async def test_what_may_be_asked_again_is_asked_again_with_the_same_id(
    client: Client, nodes: list[ScriptedNode], word: str
) -> None:
    for node in nodes:
        node.script = deque([word, OK])
    replies = await client.create_transfers(packed(77))
    assert replies["position"].tolist() == [77]
    sent = [batch for node in nodes for batch in node.batches]
    assert len(sent) > 1
    assert all(batch == [(77).to_bytes(16, "big")] for batch in sent)


@pytest.mark.parametrize(
    ("word", "ending"),
    [
        (NOT_LEADER, NotAppliedError),
        (FULL, NotAppliedError),
        (BREAKS, UnknownOutcomeError),
        (LATE, UnknownOutcomeError),
    ],
)
async def test_at_the_deadline_the_ending_is_honest(
    client: Client, nodes: list[ScriptedNode], word: str, ending: type[Exception]
) -> None:
    for node in nodes:
        node.script = deque([word])
    with pytest.raises(ending):
        await client.create_transfers(packed(1))
    with pytest.raises(ending):
        await client.pay(payment())


async def test_one_unknown_attempt_makes_the_whole_unknown(client: Client, nodes: list[ScriptedNode]) -> None:
    for node in nodes:
        node.script = deque([NOT_LEADER])
    nodes[0].script = deque([BREAKS, NOT_LEADER])
    with pytest.raises(UnknownOutcomeError):
        await client.create_transfers(packed(1))


async def test_nobody_listens(tls: TlsFiles) -> None:
    """A connection that never came about may as well have broken: gRPC does not tell the two apart."""
    async with Client(["127.0.0.1:1"], tls, deadline_s=0.3) as client:
        with pytest.raises(UnknownOutcomeError):
            await client.pay(payment())


@pytest.mark.parametrize(("word", "complaint"), [(INVALID, "invalid_argument: "), (FORBIDDEN, "permission_denied: ")])
async def test_a_refusal_of_the_form_is_told_at_once(
    client: Client, nodes: list[ScriptedNode], word: str, complaint: str
) -> None:
    nodes[0].script = deque([word])
    with pytest.raises(InvalidRequestError, match=complaint):
        await client.create_transfers(packed(1))
    assert [len(node.batches) for node in nodes] == [1, 0, 0]


async def test_a_leader_that_stalls_is_asked_again_elsewhere_within_the_deadline(
    client: Client, nodes: list[ScriptedNode]
) -> None:
    nodes[0].gate.clear()
    assert (await client.pay(payment())).status_name == "ok"
    assert [len(node.batches) for node in nodes] == [1, 1, 0]


async def test_when_all_nodes_stall_the_outcome_is_unknown(client: Client, nodes: list[ScriptedNode]) -> None:
    for node in nodes:
        node.gate.clear()
    with pytest.raises(UnknownOutcomeError):
        await client.pay(payment())
    assert len(nodes[0].batches) == 1


# --- payments ---------------------------------------------------------------------------------------------------------


async def test_payments_that_come_together_share_a_call(client: Client, nodes: list[ScriptedNode]) -> None:
    outcomes = await asyncio.gather(*(client.pay(payment(amount_minor=number)) for number in range(1, 101)))
    assert [outcome.amount_minor for outcome in outcomes] == list(range(1, 101))
    assert len(nodes[0].batches) == 1


@pytest.mark.parametrize("code", [DEADLINE, UNAVAILABLE, EXHAUSTED])
async def test_a_payment_without_an_outcome_is_asked_again_with_its_id(
    client: Client, nodes: list[ScriptedNode], code: int
) -> None:
    nodes[0].item_codes = deque([code, code])
    wanted = payment()
    assert (await client.pay(wanted)).status_name == "ok"
    assert nodes[0].batches == [[wanted.payment.payment_id]] * 3


@pytest.mark.parametrize(
    ("codes", "ending"),
    [
        ([UNAVAILABLE] * 99, NotAppliedError),
        ([EXHAUSTED] * 99, NotAppliedError),
        ([DEADLINE] + [UNAVAILABLE] * 99, UnknownOutcomeError),
        ([13] + [UNAVAILABLE] * 99, UnknownOutcomeError),  # a code that is nowhere defined promises nothing
        ([INVALID_CODE], InvalidRequestError),
    ],
)
async def test_a_payments_ending_is_honest(
    client: Client, nodes: list[ScriptedNode], codes: list[int], ending: type[Exception]
) -> None:
    nodes[0].item_codes = deque(codes)
    with pytest.raises(ending):
        await client.pay(payment())


async def test_unknown_stays_unknown_when_the_leader_is_gone_afterwards(
    client: Client, nodes: list[ScriptedNode]
) -> None:
    nodes[0].item_codes = deque([DEADLINE])
    nodes[0].script = deque([OK, NOT_LEADER])
    nodes[1].script = nodes[2].script = deque([NOT_LEADER])
    with pytest.raises(UnknownOutcomeError):
        await client.pay(payment())


async def test_one_bad_payment_does_not_harm_those_beside_it(client: Client, nodes: list[ScriptedNode]) -> None:
    nodes[0].item_codes = deque([0, INVALID_CODE, 0])
    ends = await asyncio.gather(*(client.pay(payment()) for _ in range(3)), return_exceptions=True)
    assert [type(end) for end in ends] == [payments_pb2.Outcome, InvalidRequestError, payments_pb2.Outcome]


async def test_who_waited_too_long_behind_others_surely_did_not_pay(client: Client, nodes: list[ScriptedNode]) -> None:
    """All calls that may be open at once hang, at every node; what waits behind them is never sent."""
    for node in nodes:
        node.gate.clear()
    hanging = []
    for _ in range(PAYMENT_CALLS_IN_FLIGHT_MAX):
        hanging.append(asyncio.ensure_future(client.pay(payment())))
        while len(nodes[0].batches) < len(hanging):
            await asyncio.sleep(0)
    late = payment()
    with pytest.raises((NotAppliedError, UnknownOutcomeError)) as caught:
        await client.pay(late)
    sent = any(late.payment.payment_id in batch for node in nodes for batch in node.batches)
    assert caught.type is (UnknownOutcomeError if sent else NotAppliedError)
    for task in hanging:
        with pytest.raises(UnknownOutcomeError):
            await task


async def test_quotes_and_languages_share_calls_and_each_gets_its_own(
    client: Client, nodes: list[ScriptedNode]
) -> None:
    payees = [str(number) for number in range(100)]
    quotes = await asyncio.gather(*(client.quote(payments_pb2.Payment(payee=payee)) for payee in payees))
    assert [quote.payee_name for quote in quotes] == payees
    asked = (client.language(f"2547000000{number}", "KES", deadline_s=5) for number in range(10, 99))
    assert await asyncio.gather(*asked) == [str(number) for number in range(10, 99)]
    assert [len(batch) for batch in nodes[0].batches] == [100, 89]


# --- transfers --------------------------------------------------------------------------------------------------------


async def test_transfers_share_calls_and_each_gets_its_own_replies(client: Client, nodes: list[ScriptedNode]) -> None:
    chains = [packed(10 * number, LINKED) + packed(10 * number + 1) for number in range(1, 20)]
    answers = await asyncio.gather(*(client.transfer(chain) for chain in chains))
    assert [answer["position"].tolist() for answer in answers] == [[10 * n, 10 * n + 1] for n in range(1, 20)]
    assert len(nodes[0].batches) == 1


async def test_an_open_chain_is_closed_by_the_end_of_its_call(client: Client, nodes: list[ScriptedNode]) -> None:
    """Another caller's transfer must not become part of it."""
    await asyncio.gather(client.transfer(packed(1, LINKED)), client.transfer(packed(2)))
    assert [len(batch) for batch in nodes[0].batches] == [1, 1]


@pytest.mark.parametrize("size", [0, 1, 127, 129, (BATCH_TRANSFERS_MAX + 1) * 128])
async def test_malformed_bytes_are_not_even_sent(client: Client, nodes: list[ScriptedNode], size: int) -> None:
    with pytest.raises(InvalidRequestError, match="transfers: 1 to 8190 whole records"):
        await client.transfer(bytes(size))
    assert nodes[0].batches == []


def test_a_client_needs_an_address(tls: TlsFiles) -> None:
    with pytest.raises(ValueError, match="addresses: at least one"):
        Client([], tls)


async def test_while_a_node_is_silent_the_others_are_asked(client: Client, nodes: list[ScriptedNode]) -> None:
    """The first is paused and never answers; the third leads by now."""
    nodes[0].gate.clear()
    nodes[1].script = deque([NOT_LEADER])
    assert (await client.create_transfers(packed(1)))["position"].tolist() == [1]
    assert [len(node.batches) for node in nodes] == [1, 1, 1]
    assert (await client.create_transfers(packed(2)))["position"].tolist() == [2]
    assert [len(node.batches) for node in nodes] == [1, 1, 2]  # it stays with who answered


async def test_a_slow_leader_that_still_leads_answers(client: Client, nodes: list[ScriptedNode]) -> None:
    nodes[0].gate.clear()
    nodes[1].script = nodes[2].script = deque([NOT_LEADER])
    answer = asyncio.ensure_future(client.create_transfers(packed(1)))
    while not (nodes[1].batches and nodes[2].batches):
        await asyncio.sleep(0.01)
    nodes[0].gate.set()
    assert (await answer)["position"].tolist() == [1]
    assert len(nodes[0].batches) == 1


async def test_what_another_node_may_have_done_is_unknown(client: Client, nodes: list[ScriptedNode]) -> None:
    """The silent node then says that it surely did nothing; of the other nobody knows."""
    nodes[0].gate.clear()
    nodes[0].script = nodes[2].script = deque([NOT_LEADER])
    nodes[1].script = deque([BREAKS, NOT_LEADER])
    answer = asyncio.ensure_future(client.create_transfers(packed(1)))
    while not nodes[1].batches:
        await asyncio.sleep(0.01)
    nodes[0].gate.set()
    with pytest.raises(UnknownOutcomeError):
        await answer


async def test_a_caller_that_gives_up_is_cancelled(client: Client, nodes: list[ScriptedNode]) -> None:
    nodes[0].gate.clear()
    answer = asyncio.ensure_future(client.create_transfers(packed(1)))
    while not nodes[0].batches:
        await asyncio.sleep(0.01)
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer


async def test_one_scout_asks_for_all_silent_calls(client: Client, nodes: list[ScriptedNode]) -> None:
    """Twenty calls hang at the first node; the others refuse, and are not flooded. Then one of them leads."""
    nodes[0].gate.clear()
    nodes[1].script = nodes[2].script = deque([NOT_LEADER])
    answers = [asyncio.ensure_future(client.create_transfers(packed(number))) for number in range(1, 21)]
    while len(nodes[1].batches) + len(nodes[2].batches) < 2:
        await asyncio.sleep(0.01)
    scouted = {batch[0] for node in nodes[1:] for batch in node.batches}
    assert len(scouted) == 1
    nodes[2].script = deque([OK])
    found = await asyncio.gather(*answers)
    assert [answer["position"].tolist() for answer in found] == [[number] for number in range(1, 21)]
