"""SMPP 3.4 to an operator's message centre, by smpplib: one bound connection, one submit_sm at a time and its answer.

The library waits in a thread. A connection that broke, or whose answer did not come, is closed; the next text binds
anew. A text whose answer was lost is sent again: twice is better than not at all.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from smpplib import consts, exceptions, gsm
from smpplib.client import Client

from ussd_edge.sms.limits import GATEWAY_TIMEOUT_S
from ussd_edge.sms.seam import Sms, SmsFailedError, SmsRefusedError

_NEVER = frozenset(
    {consts.SMPP_ESME_RINVDSTADR, consts.SMPP_ESME_RINVDSTTON, consts.SMPP_ESME_RINVDSTNPI, consts.SMPP_ESME_RINVMSGLEN}
)
_ANSWERS_MAX = 1_000  # of other kinds that may come before the one that is waited for


@dataclass(frozen=True, slots=True)
class SmppSettings:
    host: str
    port: int
    system_id: str
    password: str
    sender: str
    system_type: str = ""


class SmppSms:
    def __init__(self, settings: SmppSettings) -> None:
        logging.getLogger("smpp").setLevel(logging.CRITICAL)  # it would log whole messages
        self._settings = settings
        self._client: Client | None = None
        self._answer: tuple[int, int] = (0, 0)  # sequence number, status
        self._one_at_a_time = asyncio.Lock()

    async def send(self, sms: Sms) -> None:
        async with self._one_at_a_time:
            sending = asyncio.create_task(asyncio.to_thread(self._send, sms))
            await asyncio.shield(sending)

    async def close(self) -> None:
        async with self._one_at_a_time:
            await asyncio.to_thread(self._close)

    # --- in a thread ------------------------------------------------------------------------------------------------

    def _send(self, sms: Sms) -> None:
        parts, coding, message_type = gsm.make_parts(sms.text)
        try:
            client = self._client or self._bind()
            for part in parts:
                self._submit(client, sms, part, coding, message_type)
        except (exceptions.PDUError, exceptions.ConnectionError, OSError) as error:
            self._close()
            raise SmsFailedError(f"the message centre does not take it: {type(error).__name__}") from error

    def _bind(self) -> Client:
        settings = self._settings
        client = Client(settings.host, settings.port, timeout=GATEWAY_TIMEOUT_S, allow_unknown_opt_params=True)
        client.set_message_sent_handler(self._note)
        client.set_error_pdu_handler(self._note)
        client.set_message_received_handler(lambda pdu: None)
        self._client = client
        client.connect()
        client.bind_transceiver(
            system_id=settings.system_id, password=settings.password, system_type=settings.system_type
        )
        return client

    def _note(self, pdu: Any) -> None:
        if pdu.command == "submit_sm_resp":
            self._answer = (int(pdu.sequence), int(pdu.status))

    def _submit(self, client: Client, sms: Sms, part: bytes, coding: int, message_type: int) -> None:
        pdu = client.send_message(
            source_addr_ton=consts.SMPP_TON_ALNUM if not self._settings.sender.isdecimal() else consts.SMPP_TON_NWSPEC,
            source_addr=self._settings.sender,
            dest_addr_ton=consts.SMPP_TON_INTL,
            dest_addr_npi=consts.SMPP_NPI_ISDN,
            destination_addr=sms.msisdn,
            short_message=part,
            data_coding=coding,
            esm_class=message_type,
            registered_delivery=False,
        )
        self._answer = (0, 0)
        for _ in range(_ANSWERS_MAX):
            client.read_once(auto_send_enquire_link=False)
            if self._answer[0] == pdu.sequence:
                break
        sequence, status = self._answer
        if status in _NEVER:
            raise SmsRefusedError(f"command status {status:#x}")
        if sequence != pdu.sequence or status != consts.SMPP_ESME_ROK:
            raise SmsFailedError(f"command status {status:#x}")

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if client.state in (consts.SMPP_CLIENT_STATE_BOUND_TRX,):
                client.unbind()
        except (OSError, exceptions.PDUError, exceptions.ConnectionError):
            pass  # it was broken already
        client.disconnect()
