"""The bound connection: one thread reads, answers and writes, for smpplib is made for one; what is to be sent waits in
a queue and wakes it. The thread ends when the connection does, and its owner binds anew."""

from __future__ import annotations

import logging
import os
import queue
import select
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smpplib import command, consts, exceptions, gsm, smpp
from smpplib.client import Client

USSR_REQUEST, PSSR_RESPONSE = 2, 17
QUEUED_MAX = 1_000
MESSAGE_BYTES_MAX = 254
ENQUIRE_S = 30.0
TIMEOUT_S = 10.0
# deliver_sm may carry it as well as submit_sm (SMPP 3.4, 4.6.1); the library's own table has left it out.
command.DeliverSM.params.setdefault("ussd_service_op", command.Param(type=int, size=1))
_BROKEN = (exceptions.PDUError, exceptions.ConnectionError, OSError, struct.error, ValueError)  # the last two: no PDU


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """`session_field`: the optional parameter that numbers sessions: user_message_reference, or its_session_info (15
    bits of number, then one that says that it ends), or "" for none. `end_op`: a vendor writes 17 in hexadecimal."""

    host: str
    port: int
    system_id: str
    password: str
    system_type: str = ""
    session_field: str = "user_message_reference"
    end_op: int = PSSR_RESPONSE


@dataclass(frozen=True, slots=True)
class Delivered:
    msisdn: str
    code: str
    op: int
    session: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    to: Delivered
    text: str
    ends: bool


class SmppLink:
    def __init__(self, settings: LinkSettings) -> None:
        logging.getLogger("smpp").setLevel(logging.CRITICAL)  # it would log whole messages, PINs included
        self._settings = settings
        self._waiting: queue.Queue[Answer] = queue.Queue(QUEUED_MAX)
        self._wake_read, self._wake_write = os.pipe()
        self._pipe_lock, self._is_open = threading.Lock(), True
        self._closing = False
        self._ended: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="smpp", daemon=True)
        self._client = Client(settings.host, settings.port, timeout=TIMEOUT_S, allow_unknown_opt_params=True)

    def bind(self, take: Callable[[Delivered], None], ended: Callable[[], None]) -> None:
        """`take` is called in the link's thread, `ended` once, when the connection is gone. Raises OSError or smpplib's
        own errors where the centre does not take us."""
        client, settings = self._client, self._settings
        self._ended = ended
        client.set_message_received_handler(lambda pdu: take(delivered(pdu, settings.session_field)))
        client.set_message_sent_handler(lambda pdu: None)
        client.set_error_pdu_handler(lambda pdu: None)  # an answer that the centre did not take: the phone has hung up
        try:
            client.connect()
            client.bind_transceiver(
                system_id=settings.system_id, password=settings.password, system_type=settings.system_type
            )
        except BaseException:
            self._disconnect()
            raise
        self._thread.start()

    def send(self, answer: Answer) -> bool:
        """False = the queue is full or the connection gone; the answer is lost, as a phone that hung up loses it."""
        try:
            self._waiting.put_nowait(answer)
        except queue.Full:
            return False
        return self._wake()

    def close(self) -> None:
        self._closing = True
        if self._wake():
            self._thread.join(TIMEOUT_S)

    def _wake(self) -> bool:
        with self._pipe_lock:
            if self._is_open:
                os.write(self._wake_write, b"1")
            return self._is_open

    def _disconnect(self) -> None:
        self._client.disconnect()
        with self._pipe_lock:
            self._is_open = False
            os.close(self._wake_read)
            os.close(self._wake_write)

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        heard_at = time.monotonic()
        try:
            while not self._closing:
                readable, _, _ = select.select([self._client._socket, self._wake_read], [], [], ENQUIRE_S)
                if self._wake_read in readable:
                    os.read(self._wake_read, 4_096)
                    self._send_waiting()
                if self._client._socket in readable:
                    self._client.read_once(auto_send_enquire_link=False)
                    heard_at = time.monotonic()
                elif not readable:
                    if time.monotonic() - heard_at > 3 * ENQUIRE_S:
                        return
                    self._client.send_pdu(smpp.make_pdu("enquire_link", client=self._client))
            self._client.unbind()
        except _BROKEN:
            pass  # whoever owns the link hears of it and binds anew
        finally:
            self._disconnect()
            self._ended()

    def _send_waiting(self) -> None:
        while True:
            try:
                answer = self._waiting.get_nowait()
            except queue.Empty:
                return
            self._submit(answer)

    def _submit(self, answer: Answer) -> None:
        message, coding = encoded(answer.text)
        settings, to = self._settings, answer.to
        more: dict[str, Any] = {"ussd_service_op": settings.end_op if answer.ends else USSR_REQUEST}
        if to.session is not None:
            more[settings.session_field] = _session_back(settings.session_field, to.session, ends=answer.ends)
        self._client.send_message(
            source_addr_ton=consts.SMPP_TON_NWSPEC, source_addr=to.code, dest_addr_ton=consts.SMPP_TON_INTL,
            dest_addr_npi=consts.SMPP_NPI_ISDN, destination_addr=to.msisdn, short_message=message,
            data_coding=coding, **more,
        )  # fmt: skip


def encoded(text: str) -> tuple[bytes, int]:
    """Octets, at most 254, and data_coding: an octet for a GSM character, two with anything beyond."""
    try:
        return gsm.gsm_encode(text)[:MESSAGE_BYTES_MAX], consts.SMPP_ENCODING_DEFAULT
    except UnicodeError:
        return text.encode("utf-16-be")[:MESSAGE_BYTES_MAX], consts.SMPP_ENCODING_ISO10646


def delivered(pdu: Any, session_field: str) -> Delivered:
    """A deliver_sm, which is of USSD only if it has a ussd_service_op; 0 = it has none."""
    raw = bytes(pdu.short_message or b"")
    text = raw.decode("utf-16-be" if pdu.data_coding == consts.SMPP_ENCODING_ISO10646 else "ascii", "replace")
    session = getattr(pdu, session_field, None) if session_field else None
    if session is not None and session_field == "its_session_info":
        session >>= 1
    return Delivered(
        _text(pdu.source_addr).lstrip("+"), _text(pdu.destination_addr), int(pdu.ussd_service_op or 0), session, text
    )


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("ascii", "replace")


def _session_back(field: str, session: int, *, ends: bool) -> int:
    return session << 1 | ends if field == "its_session_info" else session
