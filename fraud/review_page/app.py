"""The HTTP side of the review page: one ASGI application. A token or a cookie is never in an address nor in a log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from kibubu.review.v1 import review_pb2, review_pb2_grpc
from prometheus_client import CollectorRegistry, Counter

from fraud.review_page import pages
from fraud.review_page.analysts import AnalystError, read_analysts, whose
from fraud.review_page.calibration import CalibrationWatch
from fraud.review_page.config import PageConfig
from fraud.review_page.logins import COOKIE, LOGIN_S, Login, Logins, is_own_form
from kibubu_client import KibubuError
from kibubu_client.leader import LeaderCaller

BODY_BYTES_MAX = 16 * 1_024
QUEUE_SIZE = 100
LEDGER_DEADLINE_S = 15.0  # a leader that is just being elected is waited for
_log = logging.getLogger("kibubu.review")
_CSS = (Path(__file__).parent / "page.css").read_bytes()
_HEADERS = (
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; "
        b"base-uri 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)
_VERDICTS = {"release": review_pb2.VERDICT_RELEASE, "refuse": review_pb2.VERDICT_REFUSE}
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(slots=True)
class Reply:
    status: int
    body: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    kind: bytes = b"text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    cookie: str
    form: dict[str, str]


class RefusedError(Exception):
    """Answered with a status and one sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ReviewApp:
    def __init__(
        self, config: PageConfig, registry: CollectorRegistry, *, time_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._config = config
        self._time_ns = time_ns
        self._logins = Logins()
        self._leader: LeaderCaller | None = None
        self._calibration = CalibrationWatch()
        registry.register(self._calibration)
        self._answers = Counter("kibubu_review_answers", "Answers of the review page", ["status"], registry=registry)
        self._verdicts = Counter("kibubu_review_verdicts", "Verdicts given here", ["verdict"], registry=registry)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            reply = await self._answer(scope, receive)
            self._answers.labels(str(reply.status)).inc()
            await _send(send, reply)

    async def _live(self, receive: Receive, send: Send) -> None:
        watch: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._leader = LeaderCaller(self._config.nodes, self._config.tls)
                watch = asyncio.create_task(self._calibration.run(self._leader))
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._leader is not None and watch is not None:
                    watch.cancel()
                    await self._leader.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive) -> Reply:
        who: Login | None = None
        try:
            call = await self._read(scope, receive)
            if call.path == "/healthz":
                return Reply(200, "ok", kind=b"text/plain")
            if call.path == "/page.css":
                return Reply(200, _CSS.decode(), kind=b"text/css; charset=utf-8")
            if call.path == "/login":
                return self._log_in(call)
            who = self._who(call)
            if who is None:
                return _see("/login")
            if call.method == "POST" and not is_own_form(who, call.form.get("form_token", "")):
                raise RefusedError(403, "This form is not of this login. Load the page again.")
            return await self._inside(call, who)
        except RefusedError as error:
            return Reply(error.status, pages.error(error.status, str(error), who))
        except KibubuError as error:
            _log.warning("the ledger did not answer: %s: %s", type(error).__name__, error)
            told = f"{error} Nothing is lost: look again before you decide again."
            return Reply(503, pages.error(503, told, who))

    async def _read(self, scope: MutableMapping[str, Any], receive: Receive) -> Call:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get(b"host", "") not in self._config.host_names:
            raise RefusedError(421, "This server is not called so.")  # a name that was bent to this address
        method = scope["method"]
        if method not in ("GET", "POST"):
            raise RefusedError(405, "GET or POST.")
        if method == "POST":
            _check_origin(headers)
        body = await _body(receive) if method == "POST" else b""
        try:
            parsed = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=10)
            jar = SimpleCookie(headers.get(b"cookie", ""))
        except (ValueError, CookieError) as error:
            raise RefusedError(400, "This is no form.") from error
        cookie = jar[COOKIE].value if COOKIE in jar else ""
        return Call(method, scope["path"], cookie, {name: values[-1] for name, values in parsed.items()})

    def _who(self, call: Call) -> Login | None:
        try:
            self._logins.end_all_of(set(read_analysts(self._config.analysts_file)))
        except AnalystError as error:
            raise RefusedError(500, "The file of analysts cannot be read.") from error
        return self._logins.find(call.cookie)

    def _log_in(self, call: Call) -> Reply:
        if call.method == "GET":
            return Reply(200, pages.login(""))
        if not self._logins.may_try():
            return Reply(429, pages.login("Too many wrong tokens. Wait a minute."))
        try:
            name = whose(read_analysts(self._config.analysts_file), call.form.get("token", "").strip())
        except AnalystError as error:
            raise RefusedError(500, "The file of analysts cannot be read.") from error
        if not name:
            self._logins.wrong()
            return Reply(401, pages.login("Nobody has this token."))
        secure = "; Secure" if self._config.behind_tls else ""
        cookie = (
            f"{COOKIE}={self._logins.begin(name)}; HttpOnly; SameSite=Strict; Path=/; Max-Age={LOGIN_S:.0f}{secure}"
        )
        return Reply(303, headers=[(b"location", b"/"), (b"set-cookie", cookie.encode())])

    async def _inside(self, call: Call, who: Login) -> Reply:
        if call.path == "/logout" and call.method == "POST":
            self._logins.end(call.cookie)
            return Reply(303, headers=[(b"location", b"/login"), (b"set-cookie", f"{COOKIE}=; Max-Age=0".encode())])
        if call.path == "/" and call.method == "GET":
            request = review_pb2.ListHeldPaymentsRequest(page_size=QUEUE_SIZE)
            answer = await self._ask("ListHeldPayments", request)
            return Reply(200, pages.queue(who, answer.payments, answer.waiting_total, self._time_ns()))
        if call.path.startswith("/payments/"):
            payment_id = _payment_id(call.path.removeprefix("/payments/"))
            message = await self._decide(payment_id, call.form, who) if call.method == "POST" else ""
            shown = await self._ask("GetHeldPayment", review_pb2.GetHeldPaymentRequest(payment_id=payment_id))
            if not shown.found:
                raise RefusedError(404, "No held payment has this id.")
            return Reply(200, pages.payment(who, shown, message))
        raise RefusedError(404, "There is no such page.")

    async def _decide(self, payment_id: bytes, form: dict[str, str], who: Login) -> str:
        """What became of it, in a sentence. The analyst is whose login this is, whatever the form says."""
        verdict, comment = _VERDICTS.get(form.get("verdict", "")), form.get("comment", "").strip()
        if verdict is None:
            raise RefusedError(400, "The verdict must be release or refuse.")
        if len(comment.encode()) > pages.COMMENT_BYTES_MAX:
            raise RefusedError(400, f"The comment must have at most {pages.COMMENT_BYTES_MAX} bytes.")
        request = review_pb2.DecideHeldPaymentRequest(
            payment_id=payment_id, verdict=verdict, analyst=who.analyst, comment=comment
        )
        answer = await self._ask("DecideHeldPayment", request)
        if answer.status:
            return "It was decided before; nothing was changed."
        self._verdicts.labels(pages.VERDICTS[verdict]).inc()
        if answer.analysts_missing:
            return "Your opinion is recorded; another analyst must agree."
        return f"Done: it is {pages.STATES.get(answer.state, '?')}."

    async def _ask(self, method: str, request: Any) -> Any:
        assert self._leader is not None
        return await self._leader.call(review_pb2_grpc.ReviewServiceStub, method, request, LEDGER_DEADLINE_S)


def _check_origin(headers: dict[bytes, str]) -> None:
    """Where a browser says which page a form was on, it must be one of ours."""
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
    foreign = origin is not None and origin.partition("://")[2] != headers.get(b"host")
    if foreign or site not in (None, "same-origin", "none"):
        raise RefusedError(403, "This form is of another site.")


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "The request broke off.")
        body += bytes(message.get("body", b""))
        if len(body) > BODY_BYTES_MAX:
            raise RefusedError(413, "The form is too long.")
        if not message.get("more_body"):
            return body


def _payment_id(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise RefusedError(404, "No held payment has this id.")
    return raw


def _see(path: str) -> Reply:
    return Reply(303, headers=[(b"location", path.encode())])


async def _send(send: Send, reply: Reply) -> None:
    body = reply.body.encode()
    headers = [
        (b"content-type", reply.kind), (b"content-length", str(len(body)).encode()), *_HEADERS, *reply.headers,
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
