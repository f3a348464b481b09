"""Africa's Talking bulk SMS: a form to /version1/messaging, an answer for each recipient.

200 to 299 alone says nothing: the recipient's statusCode does. 100 to 102 is taken; 403, 404, 406 and 409 are numbers
that will never get one; all else may work later.
"""

from __future__ import annotations

from typing import Any

import httpx

from ussd_edge.sms.limits import GATEWAY_TIMEOUT_S, IN_FLIGHT_MAX
from ussd_edge.sms.seam import Sms, SmsFailedError, SmsRefusedError

_TAKEN = frozenset({100, 101, 102})
_NEVER = frozenset({403, 404, 406, 409})  # invalid, unsupported, on the blacklist, does not want to be disturbed


class AfricasTalkingSms:
    def __init__(self, url: str, username: str, api_key: str, sender: str = "") -> None:
        self._url = url
        self._form = {"username": username, "bulkSMSMode": "1"} | ({"from": sender} if sender else {})
        self._http = httpx.AsyncClient(
            headers={"apiKey": api_key, "Accept": "application/json"},
            timeout=GATEWAY_TIMEOUT_S,
            limits=httpx.Limits(max_connections=IN_FLIGHT_MAX),
        )

    async def send(self, sms: Sms) -> None:
        form = self._form | {"to": f"+{sms.msisdn}", "message": sms.text}
        try:
            answer = await self._http.post(self._url, data=form)
        except httpx.HTTPError as error:
            raise SmsFailedError(f"no answer: {type(error).__name__}") from error
        if not answer.is_success:
            raise SmsFailedError(f"HTTP {answer.status_code}")
        code = _status_code(answer)
        if code in _NEVER:
            raise SmsRefusedError(f"status code {code}")
        if code not in _TAKEN:
            raise SmsFailedError(f"status code {code}")

    async def close(self) -> None:
        await self._http.aclose()


def _status_code(answer: httpx.Response) -> int:
    """Of the only recipient; 0 = the answer has none, which is how a wrong sender or an empty account is told."""
    try:
        content: Any = answer.json()
        recipients = content["SMSMessageData"]["Recipients"]
        return int(recipients[0]["statusCode"]) if recipients else 0
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise SmsFailedError("the answer is not in the form that was agreed") from error
