"""Each gateway against a real peer: HTTP over TCP, SMPP over TCP, files that a crash cut short."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.ussd_edge.sms.smsc import BAD_NUMBER, HANGS_UP, SILENT, THROTTLED, Smsc
from ussd_edge.sms.gateways.africastalking import AfricasTalkingSms
from ussd_edge.sms.gateways.file_sink import FileSink, newest_for
from ussd_edge.sms.gateways.smpp import SmppSettings, SmppSms
from ussd_edge.sms.seam import Sms, SmsFailedError, SmsRefusedError

TEXT = "SG632NMUAB Confirmed. Ksh500.00 sent to JOHN DOE 0712345678 on 6/7/24 at 5:03 PM."
SMS = Sms("7.0.payer", "254712000001", TEXT, 1)

# --- Africa's Talking -------------------------------------------------------------------------------------------------


class Provider:
    """Answers each request with the next of `answers`: (HTTP status, body)."""

    def __init__(self) -> None:
        self.answers: deque[tuple[int, bytes]] = deque()
        self.requests: list[tuple[str, dict[str, list[str]]]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = next(int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length"))
        self.requests.append((head, parse_qs((await reader.readexactly(size)).decode())))
        status, body = self.answers.popleft()
        if status:
            writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
            writer.write(body)
            await writer.drain()
        writer.close()


def taken(code: int = 101) -> tuple[int, bytes]:
    recipient = {
        "statusCode": code,
        "number": "+254712000001",
        "cost": "KES 0.8000",
        "messageId": "ATPid_1",
    }
    return 201, json.dumps({"SMSMessageData": {"Message": "Sent to 1/1", "Recipients": [recipient]}}).encode()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


@pytest.fixture
async def http(provider: Provider) -> AsyncIterator[AfricasTalkingSms]:
    gateway = AfricasTalkingSms(f"http://127.0.0.1:{provider.port}/version1/messaging", "kibubu", "k3y", "KIBUBU")
    yield gateway
    await gateway.close()


async def test_a_text_in_the_provider_s_form(provider: Provider, http: AfricasTalkingSms) -> None:
    provider.answers.append(taken())
    await http.send(SMS)
    head, form = provider.requests[0]
    assert head.startswith("POST /version1/messaging HTTP/1.1")
    assert "apikey: k3y" in head.lower()
    assert "accept: application/json" in head.lower()
    assert form == {
        "username": ["kibubu"], "bulkSMSMode": ["1"], "from": ["KIBUBU"], "to": ["+254712000001"], "message": [TEXT],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (taken(100), None),
        (taken(102), None),
        (taken(403), SmsRefusedError),
        (taken(406), SmsRefusedError),
        (taken(405), SmsFailedError),  # an empty account is filled again
        (taken(500), SmsFailedError),
        ((500, b"oops"), SmsFailedError),
        ((401, b"The supplied authentication is invalid"), SmsFailedError),
        ((201, b'{"SMSMessageData": {"Message": "InvalidSenderId", "Recipients": []}}'), SmsFailedError),
        ((201, b"<html>"), SmsFailedError),
        ((201, b"[1]"), SmsFailedError),
        ((0, b""), SmsFailedError),  # hangs up
    ],
)
async def test_what_the_provider_may_say(
    provider: Provider, http: AfricasTalkingSms, answer: tuple[int, bytes], error: type[Exception] | None
) -> None:
    provider.answers.append(answer)
    if error is None:
        await http.send(SMS)
        return
    with pytest.raises(error) as caught:
        await http.send(SMS)
    assert "JOHN" not in str(caught.value)


async def test_nobody_there(unused_tcp_port: int) -> None:
    gateway = AfricasTalkingSms(f"http://127.0.0.1:{unused_tcp_port}/", "kibubu", "k3y")
    with pytest.raises(SmsFailedError):
        await gateway.send(SMS)
    await gateway.close()


# --- SMPP -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    made = Smsc()
    async with await made.start():
        yield made


def esme(smsc: Smsc, password: str = "secret") -> SmppSms:
    return SmppSms(SmppSettings("127.0.0.1", smsc.port, "kibubu", password, "KIBUBU"))


async def test_a_text_over_smpp(smsc: Smsc) -> None:
    gateway = esme(smsc)
    await asyncio.gather(*(gateway.send(SMS) for _ in range(3)))
    assert smsc.binds == 1
    assert len(smsc.taken) == 3
    one = smsc.taken[0]
    assert (one.source, one.destination, one.data_coding, one.message) == ("KIBUBU", "254712000001", 0, TEXT.encode())
    await gateway.close()


async def test_a_long_text_goes_in_parts(smsc: Smsc) -> None:
    gateway = esme(smsc)
    long = "".join(f"{number} " for number in range(100))[:290] + "€ @é"
    await gateway.send(Sms("1", "254712000001", long, 1))
    await gateway.close()
    parts = [one.message for one in smsc.taken]
    assert len(parts) == 2
    assert all(one.esm_class & 0x40 for one in smsc.taken)  # with a header that says which part
    assert [part[:3] for part in parts] == [b"\x05\x00\x03"] * 2
    assert [part[4:6] for part in parts] == [b"\x02\x01", b"\x02\x02"]
    assert b"".join(part[6:] for part in parts).endswith(b"\x1be \x00\x05")  # €, @ and é in the GSM alphabet


async def test_a_busy_centre_is_asked_again_and_a_wrong_number_never(smsc: Smsc) -> None:
    gateway = esme(smsc)
    smsc.script.extend([THROTTLED, BAD_NUMBER])
    with pytest.raises(SmsFailedError, match="0x58"):
        await gateway.send(SMS)
    with pytest.raises(SmsRefusedError, match="0xb"):
        await gateway.send(SMS)
    await gateway.send(SMS)
    assert (len(smsc.taken), smsc.binds) == (1, 1)
    await gateway.close()


async def test_a_connection_that_breaks_is_bound_anew(smsc: Smsc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ussd_edge.sms.gateways.smpp.GATEWAY_TIMEOUT_S", 0.3)
    gateway = esme(smsc)
    smsc.script.extend([HANGS_UP, SILENT])
    for _ in range(2):
        with pytest.raises(SmsFailedError):
            await gateway.send(SMS)
    await gateway.send(SMS)
    assert (len(smsc.taken), smsc.binds) == (1, 3)
    await gateway.close()


async def test_a_wrong_password_and_nobody_there(smsc: Smsc, unused_tcp_port: int) -> None:
    wrong = esme(smsc, "wrong")
    with pytest.raises(SmsFailedError):
        await wrong.send(SMS)
    await wrong.close()
    nobody = esme(Smsc(port=unused_tcp_port))
    with pytest.raises(SmsFailedError):
        await nobody.send(SMS)
    await nobody.close()


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_a_file_has_each_text_once_whatever_is_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    sink = FileSink(path)
    for number in (1, 2, 1):
        await sink.send(Sms(f"{number}.0.payer", "254712000001", TEXT, number))
    await sink.close()
    with path.open("ab") as file:
        file.write(b'{"id": "3.0.payer", "msis')  # what a crash left of a third
    again = FileSink(path)
    for number in (1, 2, 3):
        await again.send(Sms(f"{number}.0.payer", "254712000001", "é" * number, number))
    await again.close()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["1.0.payer", "2.0.payer", "3.0.payer"]
    assert path.stat().st_mode & 0o077 == 0
    assert [line["id"] for line in newest_for(path, "254712000001")] == ["3.0.payer", "2.0.payer", "1.0.payer"]
    assert newest_for(path, "254712000009") == []
    assert newest_for(tmp_path / "nowhere", "254712000001") == []


async def test_a_full_file_is_set_aside_and_still_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ussd_edge.sms.gateways.file_sink.FILE_BYTES_MAX", 200)
    path = tmp_path / "texts.jsonl"
    sink = FileSink(path)
    for number in (1, 2, 3):
        await sink.send(Sms(str(number), "254712000001", TEXT, 1))
    await sink.close()
    again = FileSink(path)
    await again.send(Sms("2", "254712000001", TEXT, 1))
    await again.close()
    both = path.read_text(encoding="utf-8") + path.with_name("texts.jsonl.1").read_text(encoding="utf-8")
    assert sorted(json.loads(line)["id"] for line in both.splitlines()) == ["1", "2", "3"]


def test_the_newest_are_found_at_the_end_of_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ussd_edge.sms.gateways.file_sink.FILE_TAIL_BYTES", 1_000)
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": str(number), "msisdn": "254712000001", "text": TEXT}) for number in range(50)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = [line["id"] for line in newest_for(path, "254712000001")]
    assert found[0] == "49"
    assert 3 < len(found) < 10
