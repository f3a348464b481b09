"""Every gateway from its own side, to a node that pays once for each id: journeys, replays, lost and stolen state,
direct dial, and going on with a session that dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from tests.kibubu_client.scripted import BREAKS, LATE, OK
from tests.ussd_edge.edge import KEY, OPEN, PIN, Clock, Node, running_edge, running_node
from tests.ussd_edge.phone import HOME
from tests.ussd_edge.wires import LAST_INPUT, WIRES, AfricasTalking, Airtel, Arkesel, Hubtel, Nalo, Shown, Wire, replay
from ussd_edge.limits import RESUME_S_MAX, SESSION_S_MAX, SESSIONS_MAX
from ussd_edge.menu import texts
from ussd_edge.menu.texts import ENGLISH
from ussd_edge.sessions import Kept, Origin, Sealer
from ussd_edge.store import EmbeddedStore, StoreDownError

SEND = ("1", "0712000002", "500")
each_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.__name__)
each_last = pytest.mark.parametrize("wire", LAST_INPUT, ids=lambda wire: wire.__name__)
in_store = pytest.mark.parametrize("wire", [w for w in LAST_INPUT if w is not Hubtel], ids=lambda wire: wire.__name__)
NewWire = Callable[..., Wire]
RESUME = ENGLISH.resume


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as node:
        yield node


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def edge(node: Node, tmp_path: Path, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    async with running_edge(tmp_path, node, clock_ms=clock) as (_, client):
        yield client


@each_wire
async def test_a_payment(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    phone = wire()
    assert await phone.dial(edge) == Shown(HOME, ends=False)
    assert (await phone.type(edge, "1")).text.startswith(texts.NUMBER)
    await phone.type(edge, "0712000002")
    assert "Send KES 500.00 to Otieno? Fee KES 7.00." in (await phone.type(edge, "500")).text
    assert node.paid == []
    done = await phone.type(edge, PIN)
    assert done.ends
    assert done.text.startswith("Sent KES 500.00 to Otieno.") or "Sent KES 500.00" in done.text
    (payment,) = node.paid
    assert (payment.payer_msisdn, payment.payee, payment.amount_minor) == ("254712000001", "0712000002", 50_000)


@each_wire
async def test_the_last_step_five_times_at_once_and_later_is_one_payment(
    wire: NewWire, edge: httpx.AsyncClient, node: Node, clock: Clock
) -> None:
    phone = wire()
    await phone.journey(edge, *SEND)
    last = phone.typed(PIN)
    at_once = await asyncio.gather(*(replay(phone, edge, last) for _ in range(5)))
    assert len({shown.text for shown in at_once}) == 1
    assert await replay(phone, edge, last) == at_once[0]
    clock.now_ms += 3_600_000
    later = await replay(phone, edge, last)
    assert later.text in (at_once[0].text, texts.LOST)
    assert len(node.paid) == 1


@each_wire
async def test_a_whole_session_sent_again_is_one_payment(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    phone = wire()
    await phone.journey(edge, *SEND, PIN)
    for call in list(phone.sent):
        await replay(phone, edge, call)
    if not isinstance(phone, Nalo) or phone.with_session:
        assert len(node.paid) == 1


@each_wire
async def test_steps_out_of_order_pay_nothing_that_was_not_shown(
    wire: NewWire, edge: httpx.AsyncClient, node: Node
) -> None:
    """Each call of a session, but its last two turned round, then all in the opposite order."""
    phone = wire()
    await phone.journey(edge, *SEND, PIN)
    assert len(node.paid) == 1
    for call in reversed(phone.sent):
        await replay(phone, edge, call)
    assert {(one.payee, one.amount_minor) for one in node.paid} == {("0712000002", 50_000)}
    assert len(node.paid) == 1


@each_wire
async def test_a_wrong_pin_and_then_the_right_one(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    phone = wire()
    wrong = await phone.journey(edge, *SEND, "1111")
    assert (wrong.ends, wrong.text.startswith("Wrong PIN. 2 tries left.")) == (False, True)
    mistyped = await phone.type(edge, "12345")
    assert mistyped.text.startswith(texts.NOT_A_PIN)
    assert (await phone.type(edge, PIN)).ends
    assert (len(node.paid), node.wrong_tries) == (1, 1)


@each_wire
async def test_two_sessions_pay_twice(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    for session in ("s1", "s2"):
        assert (await wire(session=session).journey(edge, *SEND, PIN)).ends
    assert len(node.paid) == 2


@each_wire
async def test_direct_dial(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    phone = wire()
    shown = await phone.dial(edge, "1*0712345678*500")
    assert "Send KES 500.00 to Otieno? Fee KES 7.00." in shown.text
    assert not shown.ends
    assert (await phone.type(edge, PIN)).ends
    assert node.paid[0].payee == "0712345678"


@each_last
async def test_a_pin_is_never_taken_from_what_was_dialled(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    for number, tail in enumerate((f"1*0712345678*500*{PIN}", f"5*{PIN}", f"4*1*50*{PIN}*0", "1*0712345678*500*24680")):
        assert await wire(session=f"s{number}").dial(edge, tail) == Shown(texts.PIN_DIALLED, ends=True)
    assert (node.paid, node.batches) == ([], [])


@each_wire
async def test_another_code_is_not_ours(
    wire: NewWire, edge: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.ussd_edge.wires.CODE", "*999*7#")
    phone = wire()
    monkeypatch.setattr(phone, "read", lambda reply: Shown(reply.text, ends=True))
    shown = await phone.dial(edge)
    assert (texts.LOST if isinstance(phone, Airtel) else texts.NOT_IN_USE) in shown.text


# --- state that is lost, old, or somebody else's ----------------------------------------------------------------------


@each_last
async def test_an_input_without_a_beginning_pays_nothing(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    phone = wire()
    for text in (*SEND, PIN):
        assert await phone.type(edge, text) == Shown(texts.LOST, ends=True)
    assert node.batches == []


@each_last
async def test_a_session_is_forgotten(wire: NewWire, edge: httpx.AsyncClient, node: Node, clock: Clock) -> None:
    phone = wire()
    await phone.journey(edge, *SEND)
    clock.now_ms += (SESSION_S_MAX + 1) * 1_000
    assert await phone.type(edge, PIN) == Shown(texts.LOST, ends=True)
    assert node.paid == []


@each_last
async def test_another_phone_does_not_get_into_a_session(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    phone, thief = wire(), wire(msisdn="254712000009")
    await phone.journey(edge, *SEND)
    if isinstance(phone, Hubtel):
        thief.state = phone.state  # type: ignore[attr-defined]
    assert (await thief.type(edge, PIN)).text == texts.LOST
    assert node.paid == []


@pytest.mark.parametrize("how", ["", "x", "A" * 200, "cut", "changed", "other key", "é"])
async def test_a_state_that_is_not_ours_is_a_lost_session(how: str, edge: httpx.AsyncClient, node: Node) -> None:
    phone = Hubtel()
    await phone.journey(edge, *SEND)
    kept = Kept(Origin("hubtel", "s1"), SEND, 1_790_000_000_000)
    other = Sealer(bytes(32)).seal(kept, "session", "hubtel", "s1", phone.msisdn)
    mine = Sealer(KEY).seal(kept, "session", "hubtel", "s1", phone.msisdn)
    changed = phone.state[:40] + ("A" if phone.state[40] != "A" else "B") + phone.state[41:]
    phone.state = {"cut": phone.state[:-8], "changed": changed, "other key": other}.get(how, how)
    assert await phone.type(edge, PIN) == Shown(texts.LOST, ends=True)
    phone.state = mine
    assert (await phone.type(edge, PIN)).ends
    assert len(node.paid) == 1  # so that the test can fail


async def test_the_state_shows_nothing(edge: httpx.AsyncClient) -> None:
    phone = Hubtel()
    states = set()
    for text in SEND:
        await phone.journey(edge, text)
        states.add(phone.state)
        assert "0712" not in phone.state
    assert len(states) == 3


class Down(EmbeddedStore):
    async def get(self, key: str) -> str | None:
        raise StoreDownError("down")

    async def put(self, key: str, value: str, seconds_max: int) -> None:
        raise StoreDownError("down")

    async def drop(self, key: str) -> None:
        raise StoreDownError("down")


@each_wire
async def test_without_its_store_the_edge_serves_whom_it_can(wire: NewWire, node: Node, tmp_path: Path) -> None:
    async with running_edge(tmp_path, node, store=Down) as (_, client):
        phone = wire()
        shown = await phone.dial(client)
        if wire in (AfricasTalking, WIRES[1], Hubtel):
            for text in (*SEND, PIN):
                shown = await phone.type(client, text)
            assert len(node.paid) == 1
        else:
            assert shown == Shown(texts.BUSY, ends=True)
            assert node.batches == []


# --- a gateway's retry ------------------------------------------------------------------------------------------------


@in_store
async def test_a_retry_that_comes_at_once_is_not_a_second_input(wire: NewWire, node: Node, tmp_path: Path) -> None:
    clock = Clock(step_ms=0)
    async with running_edge(tmp_path, node, clock_ms=clock) as (_, client):
        phone = wire()
        shown = await phone.dial(client)
        if not (isinstance(phone, Nalo) and not phone.with_session):
            assert await replay(phone, client, phone.sent[-1]) == shown
        for text in ("2", "123456", "300", "1111"):
            clock.now_ms += 5_000
            shown = await phone.type(client, text)
            if len(text) >= 4:
                assert await replay(phone, client, phone.sent[-1]) == shown
        assert shown.text.startswith("Wrong PIN. 2 tries left")
        assert node.wrong_tries == 1
        clock.now_ms += 5_000
        assert (await phone.type(client, PIN)).ends
        assert [(one.payee, one.amount_minor) for one in node.paid] == [("123456", 30_000)]


# --- going on ---------------------------------------------------------------------------------------------------------


@each_wire
async def test_a_dropped_session_goes_on_where_it_stopped(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    await wire(session="s1").journey(edge, *SEND)
    again = wire(session="s2")
    assert await again.dial(edge) == Shown(RESUME, ends=False)
    assert (await again.type(edge, "7")).text == f"{texts.NOT_A_CHOICE}\n{RESUME}"
    assert "Send KES 500.00 to Otieno?" in (await again.type(edge, "1")).text
    assert (await again.type(edge, PIN)).ends
    assert len(node.paid) == 1
    assert (await wire(session="s3").dial(edge)).text == HOME  # there is nothing to go on with


@each_wire
async def test_or_it_starts_again(wire: NewWire, edge: httpx.AsyncClient, node: Node) -> None:
    await wire(session="s1").journey(edge, *SEND)
    again = wire(session="s2")
    assert await again.journey(edge, "2") == Shown(HOME, ends=False)
    for text in ("2", "123456", "300", PIN):
        shown = await again.type(edge, text)
    assert shown.ends
    assert [one.payee for one in node.paid] == ["123456"]


async def test_another_gateway_may_go_on(edge: httpx.AsyncClient, node: Node) -> None:
    await Arkesel().journey(edge, *SEND)
    again = AfricasTalking(session="s2")
    await again.journey(edge, "1", PIN)
    assert len(node.paid) == 1


@each_wire
async def test_nobody_goes_on_with_what_is_old_or_not_theirs(
    wire: NewWire, edge: httpx.AsyncClient, clock: Clock
) -> None:
    await wire(session="s1").journey(edge, *SEND)
    assert (await wire(session="s2", msisdn="254712000009").dial(edge)).text == HOME
    clock.now_ms += (RESUME_S_MAX + 1) * 1_000
    assert (await wire(session="s3").dial(edge)).text == HOME


@pytest.mark.parametrize("word", [BREAKS, LATE])
@each_wire
async def test_going_on_after_an_unknown_outcome_finds_the_payment_and_makes_no_second(
    wire: NewWire, node: Node, tmp_path: Path, word: str
) -> None:
    """The node has paid, its answer is lost, the phone shows that nothing is known: dialled again, the same payment."""
    async with running_edge(tmp_path, node, deadline_s=0.3) as (_, client):
        phone = wire(session="s1")
        await phone.journey(client, *SEND)
        node.script = deque([word])
        assert "Do NOT pay again now" in (await phone.type(client, PIN)).text
        node.script = deque([OK])
        lost = node.batches[-1][0]
        again = wire(session="s2")
        await again.dial(client)
        await again.type(client, "1")
        assert "Sent KES 500.00" in (await again.type(client, PIN)).text
        assert node.batches[-1] == [lost]
        assert len(node.paid) == 1


@each_wire
async def test_an_edge_that_is_killed_between_pin_and_answer(wire: NewWire, node: Node, tmp_path: Path) -> None:
    """Its answer never comes; the customer dials again at another edge, which shares the store."""
    shared = EmbeddedStore()
    shared.close = lambda: asyncio.sleep(0)  # type: ignore[method-assign,assignment]
    async with running_edge(tmp_path, node, store=lambda: shared) as (_, first):
        phone = wire(session="s1")
        await phone.journey(first, *SEND)
        node.gate.clear()
        waiting = asyncio.ensure_future(phone.type(first, PIN))
        while not node.batches:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        node.gate.set()
    async with running_edge(tmp_path, node, store=lambda: shared) as (_, second):
        again = wire(session="s2")
        await again.dial(second)
        await again.type(second, "1")
        assert (await again.type(second, PIN)).ends
    assert len(node.paid) == 1
    assert len({one for batch in node.batches for one in batch}) == 1


# --- maxima -----------------------------------------------------------------------------------------------------------


async def test_the_embedded_store_forgets_the_oldest() -> None:
    store = EmbeddedStore(sessions_max=2)
    for key in ("a", "b", "a", "c"):
        await store.put(key, key, 60)
    assert [await store.get(key) for key in ("a", "b", "c")] == ["a", None, "c"]
    await store.put("a", "a", 0)
    assert await store.get("a") is None
    assert SESSIONS_MAX >= 100_000


async def test_a_handset_that_asks_too_often_waits_and_others_do_not(node: Node, tmp_path: Path) -> None:
    async with running_edge(tmp_path, node, gateways=OPEN, handset_steps_per_minute_max=5) as (_, client):
        shown = [await AfricasTalking(session=f"s{n}").dial(client) for n in range(6)]
        assert [one.text == HOME for one in shown] == [True] * 5 + [False]
        assert shown[-1] == Shown(texts.TOO_OFTEN, ends=True)
        assert (await Nalo().dial(client)).text == texts.TOO_OFTEN  # by whichever gateway
        assert (await Nalo(msisdn="254712000009").dial(client)).text == HOME
