"""What every gateway is made of: a parser from its wire format to a Step, and a writer of its answers.

A gateway either sends all inputs of the session each time (Phase.PATH), or only the last one (BEGIN, INPUT); then what
came before is kept by the edge, or by the gateway itself in a token that it hands back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

SECRET_HEADER = b"x-kibubu-gateway-secret"


class BadRequestError(Exception):
    """The gateway's request breaks its own format; the message names the field and the rule, never its value."""


class NoSuchPathError(Exception):
    """The gateway has no such path."""


class Phase(Enum):
    PATH = "path"  # `inputs` holds all of the session
    BEGIN = "begin"  # `tail` holds what was dialled behind the service code
    INPUT = "input"  # `inputs` holds the last one
    END = "end"  # the session is over; `ending` says how


@dataclass(frozen=True, slots=True)
class HttpCall:
    """`path` is what follows the gateway's own: "" or "/events"."""

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    address: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    phase: Phase
    session_id: str  # "" where the gateway has none
    msisdn: str = ""  # digits, without +
    inputs: tuple[str, ...] = ()
    tail: tuple[str, ...] | None = None  # what was dialled behind the code; None where a code is due: another code
    token: str = ""
    ending: str = ""
    echo: Mapping[str, object] = field(default_factory=dict)  # what the answer must say again


@dataclass(frozen=True, slots=True)
class Reply:
    body: bytes
    content_type: bytes = b"text/plain; charset=utf-8"
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Showing:
    """A screen on its way out. An ended session is answered with nothing to show."""

    text: str
    ends: bool
    token: str = ""


def _in_header(call: HttpCall) -> bytes:
    return call.headers.get(SECRET_HEADER, b"")


@dataclass(frozen=True, slots=True)
class Gateway:
    """`parse` takes the call and the service code; it raises BadRequestError or NoSuchPathError. `presented` is the
    secret that a call shows, for gateways that have a place of their own for it."""

    name: str
    methods: frozenset[str]
    parse: Callable[[HttpCall, str], Step]
    render: Callable[[Step, Showing], Reply]
    presented: Callable[[HttpCall], bytes] = _in_header
    carries_token: bool = False
