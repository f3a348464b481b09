"""People with phones during an ordeal: payments over the API and over USSD, each of an amount that nobody else pays.

They need what transfers do not: the sidecar, the edge, the PIN. A gateway repeats a request that was not answered, as
real ones do. Afterwards every payment that was confirmed must have moved its money exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from kibubu.payments.v1 import payments_pb2

from cluster import demo
from cluster.calls import Caller
from cluster.chaos.checker import Outcome
from cluster.config_files import SERVICE_CODE
from cluster.ids import new_id
from cluster.layout import Layout
from cluster.vocabulary import CODE_PRINCIPAL, STATUS_OK, AccountKind
from kibubu_client import Client, InvalidRequestError, KibubuError, NotAppliedError

PEOPLE = 60
OPENING_MINOR = 50_000_000
THINK_S = 8.0  # one who pays every moment is rightly stopped by the fraud check
AGAIN_S = 0.25
USSD_TRIES_MAX = 8
_USSD_TIMEOUT_S = 4.0
_PAGE = 1_000
_PENDING = 2
_UNKNOWN, _BUSY = "We do not know yet", "The service is busy"  # of the edge's screens: dial again
Moved = tuple[str, str, int]  # payer, payee, amount in minor units


@dataclass(slots=True)
class Paid:
    payer: str
    payee: str
    amount_minor: int
    way: str
    outcome: Outcome = Outcome.UNKNOWN
    moved: bool = False  # what the person was told

    def ended(self) -> str:
        if self.outcome is Outcome.ACKNOWLEDGED:
            return "moved" if self.moved else "refused"
        return self.outcome.name.lower().replace("_", " ")

    @property
    def key(self) -> Moved:
        return self.payer, self.payee, self.amount_minor


def customers(caller: Caller) -> dict[str, int]:
    """Account numbers by MSISDN, made once."""
    accounts = [
        demo.DemoAccount(
            f"Phone {n}",
            "msisdn",
            f"25473{n:07d}",
            AccountKind.CUSTOMER,
            pin=demo.DEMO_PIN,
            opening_minor=OPENING_MINOR,
        )
        for n in range(1, PEOPLE + 1)
    ]
    return demo.create_accounts(caller, accounts)


class People:
    def __init__(self, layout: Layout, client: Client, numbers: dict[str, int]) -> None:
        self._layout = layout
        self._client = client
        self._msisdns = list(numbers)
        self._amounts = itertools.count(10)  # shillings
        self._stopping = asyncio.Event()
        self.paid: list[Paid] = []

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        await asyncio.gather(*(self._live(number) for number in range(PEOPLE)))

    async def _live(self, number: int) -> None:
        """Half of them dial, half use an app; each pays its neighbours in turn."""
        payer, way = self._msisdns[number], "ussd" if number % 2 else "api"
        await self._think(THINK_S * number / PEOPLE)
        while not self._stopping.is_set():
            amount_minor = (10 + next(self._amounts) % 290) * 100
            payee = self._msisdns[(number + 1 + len(self.paid) % (PEOPLE - 1)) % PEOPLE]
            paid = Paid(payer, payee, amount_minor, way)
            self.paid.append(paid)
            await (self._dial(paid) if way == "ussd" else self._pay(paid))
            await self._think(THINK_S)

    async def _think(self, seconds: float) -> None:
        """Ends at once when everything ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _pay(self, paid: Paid) -> None:
        payment = payments_pb2.Payment(
            payment_id=new_id(), kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn=paid.payer, payee=paid.payee,
            amount_minor=paid.amount_minor, currency="KES",
        )  # fmt: skip
        try:
            answer = await self._client.pay(payments_pb2.MakePaymentRequest(payment=payment, pin=demo.DEMO_PIN))
        except (NotAppliedError, InvalidRequestError):
            paid.outcome = Outcome.NOT_APPLIED
        except KibubuError:
            paid.outcome = Outcome.UNKNOWN
        else:
            paid.outcome, paid.moved = Outcome.ACKNOWLEDGED, answer.status == STATUS_OK

    async def _dial(self, paid: Paid) -> None:
        """The same session and text again and again until there is an answer."""
        session = new_id().hex()
        text = f"1*{paid.payee}*{paid.amount_minor // 100}*{demo.DEMO_PIN}"
        for _ in range(USSD_TRIES_MAX):
            screen = await asyncio.to_thread(_post, self._layout.edge_address, paid.payer, session, text)
            if screen.startswith("END") and _UNKNOWN not in screen and _BUSY not in screen:
                paid.outcome, paid.moved = Outcome.ACKNOWLEDGED, screen.startswith("END Sent")
                return
            await asyncio.sleep(AGAIN_S)


def _post(edge: str, msisdn: str, session: str, text: str) -> str:
    """The screen; empty when there was none."""
    form = {
        "sessionId": session, "serviceCode": SERVICE_CODE, "phoneNumber": f"+{msisdn}", "networkCode": "63902",
        "text": text,
    }  # fmt: skip
    data = urllib.parse.urlencode(form).encode()
    url = f"http://{edge}/ussd/africastalking"
    try:
        with urllib.request.urlopen(url, data, timeout=_USSD_TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


def moved_money(caller: Caller, numbers: dict[str, int]) -> Counter[Moved]:
    """What the ledger has moved between these people, from the payers' statements."""
    names = {number: msisdn for msisdn, number in numbers.items()}
    moved: Counter[Moved] = Counter()
    for msisdn, number in numbers.items():
        token = ""
        while True:
            request = ledger_pb2.GetStatementRequest(account_number=number, page_size=_PAGE, page_token=token)
            page = caller.leader(lambda c: ledger_pb2_grpc.LedgerServiceStub(c).GetStatement, request)
            for stored in page.transfers:
                one = stored.transfer
                is_principal = one.code == CODE_PRINCIPAL and not one.flags & _PENDING
                if is_principal and one.debit_account == number and stored.result.status == STATUS_OK:
                    moved[msisdn, names.get(one.credit_account, "?"), one.amount_minor] += 1
            token = page.next_page_token
            if not token:
                break
    return moved


def judge_people(paid: Iterable[Paid], moved: Counter[Moved]) -> list[str]:
    """Every rule about payments that was broken. Pure."""
    most: Counter[Moved] = Counter()
    least: Counter[Moved] = Counter()
    for one in paid:
        told = one.outcome is Outcome.ACKNOWLEDGED
        least[one.key] += told and one.moved
        most[one.key] += one.moved if told else one.outcome is Outcome.UNKNOWN
    problems = []
    for key in sorted({*most, *moved}):
        payer, payee, amount_minor = key
        if not least[key] <= moved[key] <= most[key]:
            wanted = f"{least[key]} to {most[key]}" if least[key] != most[key] else str(least[key])
            problems.append(
                f"payment of {amount_minor} from {payer} to {payee}: moved {moved[key]} times, must be {wanted}"
            )
    return problems
