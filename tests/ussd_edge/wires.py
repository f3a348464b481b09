"""The gateways from the other side: each plays one phone's session in its own wire format, as the aggregator would.

`sent` keeps every call, so that a test can send it again: a replay is the very same bytes.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx

CODE = "*384*100#"


@dataclass(frozen=True)
class Shown:
    text: str
    ends: bool


@dataclass
class Wire(ABC):
    """One session of one phone. `code` is dialled; `tail` behind it makes it a direct dial."""

    msisdn: str = "254712000001"
    session: str = "s1"
    sent: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    name = ""

    @abstractmethod
    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]: ...

    @abstractmethod
    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]: ...

    @abstractmethod
    def read(self, reply: httpx.Response) -> Shown: ...

    def at(self, path: str = "") -> str:
        return f"/ussd/{self.name}{path}"

    def dialled(self, tail: str) -> str:
        return f"{CODE.strip('*#')}*{tail}" if tail else CODE.strip("*#")

    async def dial(self, client: httpx.AsyncClient, tail: str = "") -> Shown:
        return await self.send(client, self.begin(tail))

    async def type(self, client: httpx.AsyncClient, text: str) -> Shown:
        return await self.send(client, self.typed(text))

    async def journey(self, client: httpx.AsyncClient, *inputs: str) -> Shown:
        shown = await self.dial(client)
        for text in inputs:
            shown = await self.type(client, text)
        return shown

    async def send(self, client: httpx.AsyncClient, call: tuple[str, str, dict[str, Any]]) -> Shown:
        self.sent.append(call)
        return await replay(self, client, call)


async def replay(wire: Wire, client: httpx.AsyncClient, call: tuple[str, str, dict[str, Any]]) -> Shown:
    method, path, content = call
    reply = await client.request(method, path, **content)
    assert reply.status_code == 200, reply.text
    return wire.read(reply)


class _Con(Wire):
    """Sends all inputs each time."""

    def __post_init__(self) -> None:
        self.inputs: list[str] = []

    def read(self, reply: httpx.Response) -> Shown:
        word, _, text = reply.text.partition(" ")
        assert word in ("CON", "END")
        return Shown(text, word == "END")


class AfricasTalking(_Con):
    name = "africastalking"

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        self.inputs = tail.split("*") if tail else []
        return self._call()

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        self.inputs.append(text)
        return self._call()

    def _call(self) -> tuple[str, str, dict[str, Any]]:
        form = {
            "sessionId": self.session, "serviceCode": CODE, "phoneNumber": f"+{self.msisdn}", "networkCode": "63902",
            "text": "*".join(self.inputs),
        }  # fmt: skip
        return "POST", self.at(), {"data": form}


class Safaricom(_Con):
    name = "safaricom"

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        self.inputs = tail.split("*") if tail else []
        return self._call()

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        self.inputs.append(text)
        return self._call()

    def _call(self) -> tuple[str, str, dict[str, Any]]:
        first, _, rest = CODE.strip("*#").partition("*")
        query = {
            "ORIG": self.msisdn, "DEST": first, "SESSION_ID": self.session,
            "USSD_PARAMS": "*".join([rest, *self.inputs]),
        }  # fmt: skip
        return "GET", f"{self.at()}?{urlencode(query)}", {}


class Hubtel(Wire):
    name = "hubtel"
    state = ""
    sequence = 0

    def _call(self, kind: str, message: str) -> tuple[str, str, dict[str, Any]]:
        self.sequence += 1
        content = {
            "Type": kind, "Mobile": self.msisdn, "SessionId": self.session, "ServiceCode": CODE, "Message": message,
            "Operator": "vodafone", "Sequence": self.sequence, "ClientState": self.state, "Platform": "USSD",
        }  # fmt: skip
        return "POST", self.at(), {"json": content}

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        return self._call("Initiation", f"*{self.dialled(tail)}#")

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        return self._call("Response", text)

    def read(self, reply: httpx.Response) -> Shown:
        content = reply.json()
        assert content["SessionId"] == self.session
        assert content["DataType"] == ("display" if content["Type"] == "Release" else "input")
        self.state = content["ClientState"]
        return Shown(content["Message"], content["Type"] == "Release")


class Arkesel(Wire):
    name = "arkesel"

    def _call(self, data: str, *, new: bool) -> tuple[str, str, dict[str, Any]]:
        content = {
            "sessionID": self.session, "userID": "KIBUBU", "newSession": new, "msisdn": self.msisdn, "userData": data,
            "network": "MTN",
        }  # fmt: skip
        return "POST", self.at(), {"json": content}

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        return self._call(f"*{self.dialled(tail)}#", new=True)

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        return self._call(text, new=False)

    def read(self, reply: httpx.Response) -> Shown:
        content = reply.json()
        assert (content["sessionID"], content["userID"], content["msisdn"]) == (self.session, "KIBUBU", self.msisdn)
        return Shown(content["message"], not content["continueSession"])


class Nalo(Wire):
    name = "nalo"
    with_session = True

    def _call(self, data: str, *, first: bool) -> tuple[str, str, dict[str, Any]]:
        content: dict[str, Any] = {
            "USERID": "KIBUBU", "MSISDN": self.msisdn, "USERDATA": data, "MSGTYPE": first, "NETWORK": "MTN",
        }  # fmt: skip
        if self.with_session:
            content["SESSIONID"] = self.session
        return "POST", self.at(), {"json": content}

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        return self._call(f"*{self.dialled(tail)}", first=True)

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        return self._call(text, first=False)

    def read(self, reply: httpx.Response) -> Shown:
        content = reply.json()
        assert (content["USERID"], content["MSISDN"]) == ("KIBUBU", self.msisdn)
        return Shown(content["MSG"], not content["MSGTYPE"])


class NaloWithoutSession(Nalo):
    with_session = False


class Mtn(Wire):
    name = "mtn"

    def _call(self, kind: str, text: str) -> tuple[str, str, dict[str, Any]]:
        content = {
            "sessionId": self.session, "messageType": kind, "msisdn": self.msisdn, "serviceCode": CODE,
            "ussdString": text, "cellId": "1", "language": "en", "imsi": "1",
        }  # fmt: skip
        return "POST", self.at("/messages/ussd/inbound"), {"json": content}

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        return self._call("0", f"*{self.dialled(tail)}#")

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        return self._call("1", text)

    def read(self, reply: httpx.Response) -> Shown:
        content = reply.json()
        data = content["data"]
        assert (content["statusCode"], data["msisdn"], data["serviceCode"]) == ("0000", self.msisdn, CODE)
        assert data["userInputRequired"] == (data["messageType"] == "1")
        return Shown(data["inboundResponse"], data["messageType"] == "2")


class Infobip(Wire):
    name = "infobip"

    def _call(self, kind: str, text: str) -> tuple[str, str, dict[str, Any]]:
        content = {
            "msisdn": self.msisdn, "imsi": "1", "text": text, "shortCode": CODE, "language": None, "optional": "",
            "ussdGwId": "gw",
        }  # fmt: skip
        return "POST", self.at(f"/session/{self.session}/{kind}"), {"json": content}

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        return self._call("start", f"*{self.dialled(tail)}#" if tail else "")

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        return self._call("response", text)

    def read(self, reply: httpx.Response) -> Shown:
        content = reply.json()
        assert content["responseExitCode"] == 200
        return Shown(content["ussdMenu"], content["shouldClose"])


class Airtel(Wire):
    name = "airtel"

    def _call(self, text: str) -> tuple[str, str, dict[str, Any]]:
        query = {"userid": "u", "password": "p", "SessionID": self.session, "MSISDN": self.msisdn, "MSC": "1"}
        return "GET", f"{self.at()}?{urlencode({**query, 'input': text})}", {}

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        return self._call(self.dialled(tail) if tail else CODE.replace("*", "").replace("#", ""))

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        return self._call(text)

    def read(self, reply: httpx.Response) -> Shown:
        assert reply.headers["charge"] == "N"
        return Shown(reply.text, {"FC": False, "FB": True}[reply.headers["Freeflow"]])


class Korba(Wire):
    name = "korba"

    def _call(self, operation: int, text: str) -> tuple[str, str, dict[str, Any]]:
        content = {
            "sessionID": self.session, "msisdn": self.msisdn, "network": "01", "ussdString": text,
            "ussdServiceOp": operation,
        }  # fmt: skip
        return "POST", self.at(), {"content": json.dumps(content).encode()}

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        return self._call(1, f"*{self.dialled(tail)}#")

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        return self._call(18, text)

    def read(self, reply: httpx.Response) -> Shown:
        content = reply.json()
        return Shown(content["message"], {2: False, 17: True}[content["ussdServiceOp"]])


class Smpp(Wire):
    """As the bridge passes it on."""

    name = "smpp"

    def _call(self, op: int, text: str) -> tuple[str, str, dict[str, Any]]:
        content = {"session": self.session, "msisdn": self.msisdn, "code": "384", "op": op, "text": text}
        return "POST", self.at(), {"content": json.dumps(content).encode()}

    def begin(self, tail: str = "") -> tuple[str, str, dict[str, Any]]:
        return self._call(1, f"*{self.dialled(tail)}#")

    def typed(self, text: str) -> tuple[str, str, dict[str, Any]]:
        return self._call(18, text)

    def read(self, reply: httpx.Response) -> Shown:
        content = reply.json()
        return Shown(content["text"], content["ends"])


WHOLE_PATH: tuple[type[Wire], ...] = (AfricasTalking, Safaricom)
LAST_INPUT: tuple[type[Wire], ...] = (Hubtel, Arkesel, Nalo, NaloWithoutSession, Mtn, Infobip, Airtel, Korba, Smpp)
WIRES = WHOLE_PATH + LAST_INPUT
