"""A message centre over TCP, written from SMPP 3.4's own tables and not from the library under test: binds, takes
submit_sm, and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from dataclasses import dataclass, field

_HEADER = struct.Struct(">IIII")
BIND, SUBMIT, UNBIND, ENQUIRE, RESPONSE = 0x09, 0x04, 0x06, 0x15, 0x80000000
OK, THROTTLED, BAD_PASSWORD, BAD_NUMBER = 0x00, 0x58, 0x0E, 0x0B
SILENT, HANGS_UP = -1, -2


@dataclass(slots=True)
class Submitted:
    source: str
    destination: str
    esm_class: int
    data_coding: int
    message: bytes


@dataclass(slots=True)
class Smsc:
    password: str = "secret"
    script: deque[int] = field(default_factory=deque)  # the status of each submit_sm to come, OK when it is empty
    taken: list[Submitted] = field(default_factory=list)
    binds: int = 0
    port: int = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size, command, _, sequence = _HEADER.unpack(await reader.readexactly(16))
                body = await reader.readexactly(size - 16)
                status, answer = self._answer(command, body)
                if status == HANGS_UP:
                    return
                if status == SILENT:
                    continue
                writer.write(_HEADER.pack(16 + len(answer), command | RESPONSE, status, sequence) + answer)
                await writer.drain()
                if command == UNBIND or (command == BIND and status):
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
            return (OK if password == self.password else BAD_PASSWORD), b"kibubu\0"
        if command != SUBMIT:
            return OK, b""
        status = self.script.popleft() if self.script else OK
        if status == OK:
            self.taken.append(_submitted(body))
        return status, (f"id{len(self.taken)}".encode() + b"\0") if status == OK else b""


def _string(body: bytes) -> tuple[str, bytes]:
    text, _, rest = body.partition(b"\0")
    return text.decode("ascii"), rest


def _submitted(body: bytes) -> Submitted:
    _, rest = _string(body)  # service type
    source, rest = _string(rest[2:])
    destination, rest = _string(rest[2:])
    esm_class, rest = rest[0], rest[3:]  # and protocol id, priority
    _, rest = _string(rest)  # schedule
    _, rest = _string(rest)  # validity
    data_coding, size = rest[2], rest[4]  # after registered delivery and replace; before it the default message
    return Submitted(source, destination, esm_class, data_coding, rest[5 : 5 + size])
