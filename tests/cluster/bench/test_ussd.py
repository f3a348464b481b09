"""A phone's journeys against a real socket: what counts as a screen that was answered, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs

import pytest

from cluster.bench.load import Payers, Tally
from cluster.bench.ussd import UssdLoad, whole_answer

MSISDNS = [f"2547110{number:05d}" for number in range(20)]
SCREENS = {
    0: "CON Kibubu\n1",
    1: "CON Enter phone number",
    2: "CON Enter amount in KES",
    3: "CON Send KES 150.00 to X?",
}
Answer = Callable[[str], bytes]


def http(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def good(text: str) -> bytes:
    step = len(text.split("*")) if text else 0
    return http(SCREENS.get(step, "END Sent KES 150.00 to X. Fee 7.00."))


async def load_of(answer: Answer, seconds: float = 0.2, *, cut: int = 0) -> tuple[Tally, list[str]]:
    """The load's tally and the inputs that the edge saw; `cut` splits each answer into two writes."""
    texts: list[str] = []
    sessions: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            form = parse_qs((await reader.readexactly(length)).decode(), keep_blank_values=True)
            texts.append(form["text"][0])
            if not texts[-1]:
                sessions.append(form["sessionId"][0])
            whole = answer(texts[-1])
            writer.write(whole[: cut or len(whole)])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(whole[cut or len(whole) :])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        tally = await UssdLoad(f"127.0.0.1:{port}", Payers(MSISDNS), 2).run(seconds)
    assert len(set(sessions)) == len(sessions), "each journey has a session of its own"
    return tally, texts


async def test_a_journey_goes_through_every_screen_and_begins_anew() -> None:
    tally, texts = await load_of(good)
    assert tally.done == tally.latencies.total > 10
    assert not tally.others
    assert sorted({len(text.split("*")) if text else 0 for text in texts}) == [0, 1, 2, 3, 4]
    assert any(text.endswith("*150*2468") for text in texts)


@pytest.mark.parametrize("cut", [1, 20, 45])
async def test_an_answer_may_come_in_pieces(cut: int) -> None:
    tally, _ = await load_of(good, cut=cut)
    assert tally.done > 5
    assert not tally.others


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http("END The service is busy."), "step 0: END The service is busy."),
        (http("CON Kibubu", "503 Busy"), "step 0: CON Kibubu"),
    ],
)
async def test_another_screen_is_no_screen_that_was_done(answer: bytes, told: str) -> None:
    tally, _ = await load_of(lambda _: answer)
    assert tally.done == 0
    assert list(tally.others) == [told]


async def test_a_held_payment_is_done_and_told() -> None:
    held = http("END Your payment is being checked; the money is reserved.")
    tally, _ = await load_of(lambda text: held if text.endswith("2468") else good(text))
    assert set(tally.others) == {"held_for_review (done)"}
    assert tally.done > tally.others["held_for_review (done)"]


async def test_a_journey_that_was_cut_short_before_is_started_again() -> None:
    def answer(text: str) -> bytes:
        if not text:
            return http("CON You stopped before the end.\n1 Go on\n2 Start again")
        assert text.startswith("2")
        return good(text[2:])

    tally, _ = await load_of(answer)
    assert tally.done
    assert not tally.others


async def test_an_edge_that_goes_away_or_states_no_length_ends_the_load() -> None:
    with pytest.raises(ValueError, match="no content-length"):
        await load_of(lambda _: b"HTTP/1.1 200 OK\r\n\r\nCON Kibubu")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError):
            await UssdLoad(f"127.0.0.1:{port}", Payers(MSISDNS), 1).run(0.2)


def test_an_answer_is_whole_only_with_its_body() -> None:
    whole = http("CON Kibubu")
    assert [whole_answer(whole[:at]) for at in range(len(whole))] == [None] * len(whole)
    assert whole_answer(whole + b"HTTP") == whole


def test_no_payer_is_asked_twice_at_once() -> None:
    payers = Payers(MSISDNS)
    taken = [payers.take() for _ in MSISDNS]
    assert [payer for payer, _ in taken] == MSISDNS
    assert all(payer != payee for payer, payee in taken)
