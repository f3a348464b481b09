"""A message centre with USSD over TCP, written from SMPP 3.4's own tables and not from the library under test."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field

_HEADER = struct.Struct(">IIII")
BIND, SUBMIT, DELIVER, UNBIND, ENQUIRE, RESPONSE = 0x09, 0x04, 0x05, 0x06, 0x15, 0x80000000
SERVICE_OP, MESSAGE_REFERENCE, SESSION_INFO = 0x0501, 0x0204, 0x1383


@dataclass(frozen=True, slots=True)
class Submitted:
    source: str
    destination: str
    data_coding: int
    message: bytes
    more: dict[int, bytes]  # optional parameters by tag

    @property
    def op(self) -> int:
        return self.more[SERVICE_OP][0]


@dataclass(slots=True)
class Centre:
    password: str = "secret"
    submitted: asyncio.Queue[Submitted] = field(default_factory=asyncio.Queue)
    acknowledged: asyncio.Queue[int] = field(default_factory=asyncio.Queue)  # sequence numbers of deliver_sm
    bound: asyncio.Event = field(default_factory=asyncio.Event)
    binds: int = 0
    unbinds: int = 0
    port: int = 0
    _writer: asyncio.StreamWriter | None = None
    _sequence: int = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def hang_up(self) -> None:
        assert self._writer is not None
        self.bound.clear()
        self._writer.close()

    async def deliver(
        self, op: int, text: str, *, source: str = "254712000001", code: str = "384", more: dict[int, bytes]
    ) -> int:
        assert self._writer is not None
        self._sequence += 1
        message = text.encode("ascii")
        body = b"\0\x01\x01" + source.encode() + b"\0\x01\x01" + code.encode() + b"\0\0\0\0\0\0\0\0\0\0"
        body += bytes([len(message)]) + message
        for tag, value in ({SERVICE_OP: bytes([op])} | more).items() if op else more.items():
            body += struct.pack(">HH", tag, len(value)) + value
        self._writer.write(_HEADER.pack(16 + len(body), DELIVER, 0, self._sequence) + body)
        await self._writer.drain()
        return self._sequence

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size, command, _, sequence = _HEADER.unpack(await reader.readexactly(16))
                body = await reader.readexactly(size - 16)
                if command == DELIVER | RESPONSE:
                    self.acknowledged.put_nowait(sequence)
                if command & RESPONSE:
                    continue
                status, answer = self._answer(command, body)
                writer.write(_HEADER.pack(16 + len(answer), command | RESPONSE, status, sequence) + answer)
                await writer.drain()
                if command == BIND and not status:
                    self._writer = writer
                    self.bound.set()
                if command == UNBIND:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _answer(self, command: int, body: bytes) -> tuple[int, bytes]:
        if command == BIND:
            self.binds += 1
            _, rest = _string(body)
            password, _ = _string(rest)
            return (0 if password == self.password else 0x0E), b"kibubu\0"
        if command == UNBIND:
            self.unbinds += 1
        if command != SUBMIT:
            return 0, b""
        self.submitted.put_nowait(_submitted(body))
        return 0, b"id\0"


def _string(body: bytes) -> tuple[str, bytes]:
    text, _, rest = body.partition(b"\0")
    return text.decode("ascii"), rest


def _submitted(body: bytes) -> Submitted:
    _, rest = _string(body)  # service type
    source, rest = _string(rest[2:])
    destination, rest = _string(rest[2:])
    _, rest = _string(rest[3:])  # schedule, after esm class, protocol id and priority
    _, rest = _string(rest)  # validity
    data_coding, size = rest[2], rest[4]
    message, rest = rest[5 : 5 + size], rest[5 + size :]
    more = {}
    while rest:
        tag, length = struct.unpack_from(">HH", rest)
        more[tag], rest = rest[4 : 4 + length], rest[4 + length :]
    return Submitted(source, destination, data_coding, message, more)
