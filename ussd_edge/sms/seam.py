"""What the outbox wants of a gateway for SMS, and how a gateway says that it could not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class SmsError(Exception):
    """The common ancestor."""


class SmsFailedError(SmsError):
    """Not sent, or nobody knows: it is tried again. The message says why and quotes nothing of the text."""


class SmsRefusedError(SmsError):
    """This number or this text will never be taken."""


@dataclass(frozen=True, slots=True)
class Sms:
    id: str  # the event and the side that it is for: a gateway that knows it need not send it again
    msisdn: str  # E.164 digits without +
    text: str
    made_ns: int  # when the payment was committed


class SmsGateway(Protocol):
    async def send(self, sms: Sms) -> None:
        """Returns when the gateway has taken it. Raises SmsFailedError or SmsRefusedError."""
        ...

    async def close(self) -> None: ...
