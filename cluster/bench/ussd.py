"""Phones at the edge over plain HTTP: whole journeys, each screen a request, one connection a phone, kept open."""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial
from typing import cast
from urllib.parse import urlencode

from cluster.bench.load import Payers, Tally
from cluster.config_files import SERVICE_CODE
from cluster.demo import DEMO_PIN

PATH = "/ussd/africastalking"
AMOUNT_KES = "150"
_HEADER_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_STARTS = (b"CON Kibubu", b"CON Enter phone", b"CON Enter amount", b"CON Send KES", b"END Sent KES")  # of the answers
_STOPPED = b"CON You stopped before the end"  # instead of the first: the journey that the last stretch cut short
_AGAIN = "2"  # start again
_HELD = b"END Your payment is being checked"  # instead of the last: an analyst will look at it


def request(session: str, msisdn: str, text: str) -> bytes:
    form = urlencode(
        {"sessionId": session, "serviceCode": SERVICE_CODE, "phoneNumber": f"+{msisdn}", "networkCode": "63902"}
    )
    body = f"{form}&{urlencode({'text': text})}".encode()
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: edge\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def journey(session: str, payer: str, payee: str, *, again: bool = False) -> list[bytes]:
    """Send money, one screen at a time: the menu, its first choice, the number, the amount, the PIN. `again`: after the
    screen that offers to go on with a journey which was cut short."""
    path = [_AGAIN] if again else []
    texts = ["*".join(path)]
    for given in ("1", payee, AMOUNT_KES, DEMO_PIN):
        path.append(given)
        texts.append("*".join(path))
    return [request(session, payer, text) for text in texts]


def whole_answer(received: bytes) -> bytes | None:
    """Status line, headers and body as soon as all of it is there. Raises ValueError when no length is stated."""
    end = received.find(_HEADER_END)
    if end < 0:
        return None
    at = received[:end].lower().find(_LENGTH)
    if at < 0:
        raise ValueError("an answer of the edge states no content-length")
    length = int(received[at + len(_LENGTH) : end].split(b"\r\n", 1)[0])
    whole = end + len(_HEADER_END) + length
    return received[:whole] if len(received) >= whole else None


class Phone(asyncio.Protocol):
    """One journey after the other until `end_s`; the screen that is open then is waited for and not counted."""

    def __init__(self, payers: Payers, tally: Tally, end_s: float) -> None:
        self._payers = payers
        self._tally = tally
        self._end_s = end_s
        self._received = b""
        self._who = ("", "", "")  # session, payer, payee
        self._requests: list[bytes] = []
        self._step = 0
        self._sent_s = 0.0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # a stream; uvloop's has another base class
        self._begin()

    def _begin(self) -> None:
        self._who = (secrets.token_hex(8), *self._payers.take())
        self._requests, self._step = journey(*self._who), 0
        self._ask()

    def _ask(self) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(self._requests[self._step])

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            answer = whole_answer(self._received)
        except ValueError as error:
            self._end(error)
            return
        if answer is None:
            return
        self._received = self._received[len(answer) :]
        now_s = time.perf_counter()
        if now_s > self._end_s:
            self._end(None)
            return
        self._note(answer, now_s)

    def _note(self, answer: bytes, now_s: float) -> None:
        body = answer[answer.find(_HEADER_END) + len(_HEADER_END) :]
        if self._step == 0 and body.startswith(_STOPPED):
            self._requests = journey(*self._who, again=True)
            self._ask()
            return
        is_last = self._step == len(_STARTS) - 1
        is_held = is_last and body.startswith(_HELD)
        if not answer.startswith(b"HTTP/1.1 200") or not (is_held or body.startswith(_STARTS[self._step])):
            self._tally.others[f"step {self._step}: {body[:40].decode(errors='replace')}"] += 1
            self._begin()
            return
        if is_held:
            self._tally.others["held_for_review (done)"] += 1
        self._tally.done += 1
        self._tally.latencies.record(now_s - self._sent_s)
        if is_last:
            self._begin()
            return
        self._step += 1
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("the edge closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if not self.finished.done():
            if error is None:
                self.finished.set_result(None)
            else:
                self.finished.set_exception(error)
        self._transport.close()


class UssdLoad:
    def __init__(self, address: str, payers: Payers, phones: int) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._payers = payers
        self._phones = phones

    async def run(self, seconds: float) -> Tally:
        tally, loop = Tally(), asyncio.get_running_loop()
        end_s = time.perf_counter() + seconds
        make = partial(Phone, self._payers, tally, end_s)
        opened = await asyncio.gather(
            *(loop.create_connection(make, self._host, self._port) for _ in range(self._phones))
        )
        await asyncio.gather(*(phone.finished for _, phone in opened))
        return tally

    async def close(self) -> None:
        """Each run opens its own connections."""
