"""Random lives: every kind of payment in any order, with waits, retries and ends; the books balance after each.

A plain record of who was told what is kept beside the ledger, and the two must agree to the cent.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kibubu.payments.v1 import payments_pb2

from node.ledger.columns import Column
from node.ledger.entry import encode_entry
from node.ledger.records import TransferFlag
from node.ledger.statuses import TransferCode
from node.service.airtime import SimulatedProvider
from node.service.airtime_runner import AirtimeRunner
from node.service.payment_reversals import pack_end
from node.service.voucher_payer import VoucherPayer
from tests.service.leader import Leader
from tests.service.one_node import PIN, OneNode

_P = payments_pb2
PEOPLE = ("254712000001", "254712000002", "254712000003")
STRANGERS = ("254712000071", "254712000072")
AMOUNTS = st.sampled_from([5_000, 10_000, 12_345, 50_000, 120_000, 300_000, 999_999, 1])
HOURS_S = st.sampled_from([3_600, 24 * 3_600, 73 * 3_600, 8 * 24 * 3_600])

person, stranger = st.sampled_from(PEOPLE), st.sampled_from(STRANGERS)
agent, merchant = st.sampled_from(("20001", "20002")), st.sampled_from(("123456", "888880"))
topped_up = st.sampled_from(("0712000007", "0712000008"))  # the second one's provider refuses
earlier = st.integers(1, 40)  # a step before this one, or none
ACTS = st.one_of(
    st.tuples(st.just(_P.PAYMENT_KIND_SEND_MONEY), person, person, AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_PAY_TILL), person, st.just("123456"), AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_PAY_BILL), person, st.just("888880"), AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_BUY_AIRTIME), person, topped_up, AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_SEND_TO_UNREGISTERED), person, stranger, AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_CASH_IN), agent, person, AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_CASH_OUT), person, agent, AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_AGENT_FLOAT), agent, agent, AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_MERCHANT_PAYOUT), merchant, person, AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_REDEEM_VOUCHER), agent, st.just(""), st.just(0), earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_REVERSAL), person, st.just(""), st.sampled_from([0, 5_000]), earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_REFUND), merchant, st.just(""), st.sampled_from([0, 5_000]), earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_REMITTANCE), person, st.just("256772000001"), AMOUNTS, earlier),
    st.tuples(st.just(_P.PAYMENT_KIND_PAY_REQUEST), person, merchant, AMOUNTS, earlier),
    st.tuples(st.just(-1), st.just(""), st.just(""), HOURS_S, earlier),  # time passes
    st.tuples(st.just(-2), stranger, st.just(""), st.just(0), earlier),  # somebody registers
    st.tuples(st.just(-3), st.just(""), st.just(""), st.just(0), earlier),  # the provider answers
    st.tuples(st.just(-4), st.sampled_from(["post", "void"]), st.just(""), st.just(0), earlier),  # an operator decides
    st.tuples(st.just(-5), st.just(""), st.just(""), st.just(0), earlier),  # a step is asked for again
)


_ABOUT = {  # what kinds a kind may name as its original
    _P.PAYMENT_KIND_REDEEM_VOUCHER: (_P.PAYMENT_KIND_SEND_TO_UNREGISTERED,),
    _P.PAYMENT_KIND_REFUND: (_P.PAYMENT_KIND_PAY_TILL, _P.PAYMENT_KIND_PAY_BILL),
    _P.PAYMENT_KIND_REVERSAL: (
        _P.PAYMENT_KIND_SEND_MONEY, _P.PAYMENT_KIND_SEND_TO_UNREGISTERED, _P.PAYMENT_KIND_REVERSAL,
    ),
}  # fmt: skip


class Life:
    def __init__(self, folder: Path) -> None:
        self.node = OneNode(folder)
        self.people = self.node.people() | self.node.agents() | self.node.abroad()
        for name in ("till", "paybill"):
            self.node.set_pin(self.people[name], PIN)
        self.leader = Leader(self.node, airtime_waits=True)
        self.airtime = AirtimeRunner(
            self.node, self.node.store, self.leader.book, self.leader.admission, SimulatedProvider(), self.now_s
        )
        self.vouchers = VoucherPayer(self.node, self.node.store, self.leader.book, self.leader.desk)
        self.asked: dict[int, dict[str, Any]] = {}
        self.told: dict[int, payments_pb2.Outcome] = {}
        self.registered: set[str] = set()

    def now_s(self) -> float:
        return self.leader.now_ns / 1e9

    async def act(self, number: int, act: tuple[int, str, str, int, int]) -> None:
        kind, who, whom, amount, before = act
        if kind == -1:
            self.leader.now_ns += amount * 1_000_000_000
            self.node.write(encode_entry(self.leader.now_ns))
        elif kind == -2 and who not in self.registered:
            self.registered.add(who)
            self.node.account("msisdn", who, pin=PIN)
            await self.vouchers.look()
        elif kind == -3:
            await self.airtime.look()
        elif kind == -4:
            self.decide(before, who)
        elif kind == -5 and before in self.asked and self.told[before].position:
            # What no account could be charged with remembering may be judged otherwise later.
            again = await self.leader.pay(before, **self.asked[before])
            assert (again.status, again.position) == (self.told[before].status, self.told[before].position)
        elif kind > 0:
            await self.pay(number, kind, who, whom, amount, before)

    async def pay(self, number: int, kind: int, who: str, whom: str, amount: int, before: int) -> None:
        fields: dict[str, Any] = {"kind": kind, "payee": whom, "amount_minor": amount}
        fields["payer_msisdn" if who.startswith("254") else "payer"] = who
        if kind == _P.PAYMENT_KIND_PAY_BILL:
            fields["reference"] = "ACC 9"
        if not whom:
            self.name_original(fields, before)
        if kind == _P.PAYMENT_KIND_REMITTANCE:
            fields["payee_currency"] = "UGX"
            fields["quote"] = self.leader.quote(**fields).quote
        if kind == _P.PAYMENT_KIND_PAY_REQUEST:
            request = await self.request(number, who, whom, amount)
            fields |= {"payee": "", "amount_minor": 0, "original_payment_id": request}
        self.asked[number] = {"payer_msisdn": ""} | fields
        self.told[number] = await self.leader.pay(number, **self.asked[number])

    def name_original(self, fields: dict[str, Any], before: int) -> None:
        """One of the payments that this kind may be about, and one of its two parties."""
        about = _ABOUT[fields["kind"]]
        found = [number for number, asked in self.asked.items() if asked["kind"] in about]
        original = found[before % len(found)] if found else before
        fields["original_payment_id"] = original.to_bytes(16, "big")
        if fields["kind"] == _P.PAYMENT_KIND_REDEEM_VOUCHER and original in self.told:
            fields["secret"] = self.told[original].voucher_secret if before % 5 else "000000"
        elif fields["kind"] == _P.PAYMENT_KIND_REVERSAL and found:
            asked = self.asked[original]
            fields["payer_msisdn"] = asked["payee"] if before % 2 else asked["payer_msisdn"]
            if asked["kind"] == _P.PAYMENT_KIND_REVERSAL:  # whose money is reserved agrees
                stored = self.leader.book.past.payment(original)
                payer = int(stored.record["payer_account"]) if stored is not None else 0
                fields["payer_msisdn"] = self.leader.book.parties.handle_of(payer, "msisdn")

    async def request(self, number: int, who: str, merchant: str, amount: int) -> bytes:
        requests, asked = self.leader.book.requests, (10_000 + number).to_bytes(16, "big")
        new = requests.checked(
            _P.RequestPaymentRequest(
                pay_request_id=asked, merchant=merchant, payer_msisdn=who, amount_minor=amount, currency="KES"
            )
        )
        assert isinstance(new, _P.PayRequest)
        await self.leader.admission.submit(commands=requests.commands(new, requests.account_of(new)))
        return asked

    def decide(self, before: int, end: str) -> None:
        stored = self.leader.book.past.payment(before)
        if stored is None or before not in self.told or self.told[before].status_name != "reversal_is_reserved":
            return
        flag = TransferFlag.POST if end == "post" else TransferFlag.VOID
        packed = pack_end(stored, b"approve:amina", flag, TransferCode.REVERSAL_END)
        self.node.write(encode_entry(self.leader.now_ns, transfers=packed))

    def check(self) -> None:
        """Trial balance per ledger, nothing overdrawn that must not be, everything that waits is reserved."""
        rows = self.node.store.columns[1 : self.node.store.accounts_total + 1]
        for ledger in (404, 800):
            mine = rows[rows[:, Column.LEDGER] == ledger]
            for debit, credit in (
                (Column.DEBITS_POSTED, Column.CREDITS_POSTED), (Column.DEBITS_PENDING, Column.CREDITS_PENDING),
            ):  # fmt: skip
                assert int(mine[:, debit].sum()) == int(mine[:, credit].sum())
        available = rows[:, Column.CREDITS_POSTED] - rows[:, Column.DEBITS_POSTED] - rows[:, Column.DEBITS_PENDING]
        assert bool(np.all(available[rows[:, Column.FLAGS] & 1 == 1] >= 0))
        assert bool(np.all(rows[:, [Column.DEBITS_PENDING, Column.CREDITS_PENDING]] >= 0))

    def check_reversals(self) -> None:
        """Of no payment more came back than it was."""
        for number in self.told:
            stored = self.leader.book.past.payment(number)
            if stored is not None:
                assert self.leader.book.past.reversals(number)[1] <= int(stored.record["amount_minor"])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTS, min_size=15, max_size=40))
def test_the_books_balance_after_any_life(acts: list[tuple[int, str, str, int, int]]) -> None:
    async def live(folder: Path) -> None:
        life = Life(folder)
        try:
            for number, act in enumerate(acts, 1):
                await life.act(number, act)
                life.check()
            life.check_reversals()
            life.leader.now_ns += 30 * 24 * 3_600 * 1_000_000_000
            life.node.write(encode_entry(life.leader.now_ns))  # nothing waits for ever
            life.check()
            rows = life.node.store.columns[1 : life.node.store.accounts_total + 1]
            assert not rows[:, [Column.DEBITS_PENDING, Column.CREDITS_PENDING]].any()
            life.node.store.checkpoint(wait=True)
            assert life.node.store.verify().ok
        finally:
            life.node.store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder)))
