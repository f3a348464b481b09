"""What an account's owner and the operator do with it, over real gRPC: tiers and their limits, PINs old, new and
temporary, blocking from another phone, a changed SIM."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kibubu.ledger.v1 import ledger_pb2
from kibubu.payments.v1 import payments_pb2
from kibubu.raft.v1 import raft_pb2

from kibubu_client import Client, InvalidRequestError
from node.ledger.columns import AccountFlag, Column
from tests.service.books import Books, open_books
from tests.service.one_node import PIN, START_NS

WANJIKU, NEW_PIN, TEMPORARY = "254712000001", "8642", "7531"
TIERS = """[[tier]]
number = 1
name = "Kenya"
currency = "KES"
utc_offset_minutes = 180
payment_minimum = 10
payment_maximum = 1000
day = 1500
balance_maximum = 12000
dormant_after_days = 90
"""
_numbers = itertools.count(1)


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    async with open_books(tmp_path) as made:
        put = raft_pb2.PutDocument(kind="tiers", key="tiers", body=TIERS.encode(), author="Amina")
        made.node.command(put_document=put)
        for name in ("wanjiku", "otieno"):
            made.node.command(set_tier=raft_pb2.SetTier(account_number=made.people[name], tier=1))
        yield made


def request_id() -> bytes:
    return (next(_numbers) << 64).to_bytes(16, "big")


async def change_pin(client: Client, pin: str = PIN, new_pin: str = NEW_PIN, **fields: Any) -> str:
    asked = {"request_id": request_id(), "msisdn": WANJIKU, "currency": "KES", "pin": pin, "new_pin": new_pin} | fields
    return (await client.change_pin(payments_pb2.ChangePinRequest(**asked))).status_name


async def block(client: Client, pin: str = PIN, msisdn: str = WANJIKU) -> str:
    asked = payments_pb2.BlockAccountRequest(request_id=request_id(), msisdn=msisdn, currency="KES", pin=pin)
    return (await client.block_account(asked)).status_name


async def check(client: Client, pin: str = PIN) -> str:
    asked = payments_pb2.CheckBalanceRequest(request_id=request_id(), msisdn=WANJIKU, currency="KES", pin=pin)
    return (await client.check_balance(asked)).status_name


async def update(client: Client, account: int, **change: Any) -> str:
    asked = ledger_pb2.AccountUpdate(request_id=request_id(), account_number=account, **change)
    response = await client.update_accounts(ledger_pb2.UpdateAccountsRequest(updates=[asked]))
    return response.results[0].status_name


async def pay(books: Books, amount_minor: int, **changes: Any) -> str:
    outcome = await books.pay(next(_numbers) << 70, amount_minor=amount_minor, **changes)
    return outcome.status_name


def quote(books: Books, amount_minor: int) -> str:
    payment = payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn=WANJIKU, payee="0712000002",
        amount_minor=amount_minor, currency="KES",
    )  # fmt: skip
    return books.book.quote(payment).status_name


# Limits


async def test_limits_are_told_before_the_pin_and_with_it(books: Books) -> None:
    for amount_minor, told in ((999, "amount_under_tier_minimum"), (100_001, "amount_over_tier_maximum")):
        assert (quote(books, amount_minor), await pay(books, amount_minor)) == (told, told)
    assert quote(books, 100_000) == await pay(books, 100_000) == "ok"
    assert quote(books, 50_001) == await pay(books, 50_001) == "day_limit_exceeded"
    assert quote(books, 50_000) == await pay(books, 50_000) == "ok"
    assert quote(books, 1_000) == "day_limit_exceeded"
    books.now_ns += 86_400 * 10**9
    assert quote(books, 50_000) == "ok"


async def test_the_payees_balance_has_an_end(books: Books) -> None:
    for payer in ("254712000001", "254712000003"):
        assert await pay(books, 100_000, payer_msisdn=payer) == "ok"
    assert await pay(books, 1_000, payer_msisdn="254712000003") == "payee_balance_limit_exceeded"


async def test_two_payments_at_once_do_not_pass_a_limit_together(books: Books) -> None:
    """Both were judged on the same state: the second is refused by the ledger itself, and told by the same name."""
    wanted = [payments_pb2.Payment(
        payment_id=request_id(), kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn=payer, payee="0712000002",
        amount_minor=150_000, currency="KES",
    ) for payer in ("254712000003", "254712000003", "254712000001")]  # fmt: skip
    books.node.command(set_tier=raft_pb2.SetTier(account_number=books.people["wanjiku"], tier=0))
    async with books.client("edge") as client:
        asks = [payments_pb2.MakePaymentRequest(payment=payment, pin=PIN) for payment in wanted[1:]]
        response = await client._payment("MakePayments", payments_pb2.MakePaymentsRequest(payments=asks))
    told = sorted(item.outcome.status_name for item in response.items)
    assert told == ["ok", "payee_balance_limit_exceeded"]
    refused = next(item.outcome for item in response.items if item.outcome.status)
    assert refused.transfer_status_name == "credit_account_over_balance_limit"
    assert refused.gsma_code == "maxBalanceExceeded"


async def test_an_account_is_looked_up_with_what_it_used(books: Books) -> None:
    assert await pay(books, 60_000) == "ok"
    async with books.client() as client:
        numbers = [books.people["wanjiku"], books.people["achieng"]]
        found = await client.lookup_accounts(ledger_pb2.LookupAccountsRequest(account_numbers=numbers))
        usage = found.accounts[0].usage
        assert (usage.tier, usage.tier_name, usage.is_dormant) == (1, "Kenya", False)
        assert not found.accounts[1].HasField("usage")
        made = ledger_pb2.NewAccount(request_id=request_id(), ledger=404, kind=1, tier=1)
        wrong = ledger_pb2.NewAccount(request_id=request_id(), ledger=840, kind=1, tier=1)
        results = (await client.create_accounts(ledger_pb2.CreateAccountsRequest(accounts=[made, wrong]))).results
        assert [one.status_name for one in results] == ["ok", "tier_has_another_currency"]
        assert await update(client, numbers[0], set_tier=9) == "tier_unknown"
        assert await update(client, numbers[0], set_tier=0) == "ok"
        assert await pay(books, 200_000, payer_msisdn="254712000003", payee="0712000001") == "ok"


# PINs


async def test_a_pin_is_changed_with_the_old_one(books: Books) -> None:
    async with books.client("edge") as client:
        assert await change_pin(client, new_pin="1234") == "new_pin_too_easy"
        assert await change_pin(client, new_pin="12a4") == "new_pin_too_easy"
        assert await change_pin(client, new_pin=PIN) == "new_pin_is_the_old_one"
        assert await change_pin(client, pin="1357") == "pin_wrong"
        once = request_id()
        assert [await change_pin(client, request_id=once) for _ in range(2)] == ["ok", "ok"]
        assert await check(client) == "pin_wrong"
        assert await check(client, NEW_PIN) == "ok"
        assert await change_pin(client, msisdn="254700000009") == "payer_not_found"


async def test_wrong_tries_of_a_change_count_and_lock(books: Books) -> None:
    async with books.client("edge") as client:
        told = [await change_pin(client, pin="1357") for _ in range(4)]
        assert told == ["pin_wrong", "pin_wrong", "pin_wrong_and_now_locked", "pin_locked"]
        assert await check(client) == "pin_locked"


async def test_a_reset_pin_is_good_for_nothing_but_another(books: Books) -> None:
    wanjiku = books.people["wanjiku"]
    async with books.client() as client:
        assert await block(client) == "ok"
        assert await update(client, wanjiku, reset_pin=TEMPORARY) == "ok"
        assert await check(client, TEMPORARY) == "pin_is_temporary"
        assert await block(client, "1357") == "pin_wrong"
        asked = payments_pb2.Payment(
            payment_id=request_id(), kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn=WANJIKU,
            payee="0712000002", amount_minor=1_000, currency="KES",
        )  # fmt: skip
        paid = await client.pay(payments_pb2.MakePaymentRequest(payment=asked, pin=TEMPORARY))
        assert paid.status_name == "pin_is_temporary"
        assert await update(client, wanjiku, set_flags=1) == "ok"  # which does not make the PIN a lasting one
        assert await check(client, TEMPORARY) == "pin_is_temporary"
        assert await change_pin(client, TEMPORARY, TEMPORARY) == "new_pin_is_the_old_one"
        assert await change_pin(client, TEMPORARY, NEW_PIN) == "ok"
        assert await check(client, NEW_PIN) == "ok"
        with pytest.raises(InvalidRequestError, match=r"updates\[0\].reset_pin"):
            await update(client, wanjiku, reset_pin="1111")


async def test_an_account_is_blocked_from_any_phone_and_still_receives(books: Books) -> None:
    async with books.client("edge") as edge, books.client() as operator:
        assert await block(edge, msisdn="0712000001") == "ok"
        assert await check(edge) == "pin_locked"
        assert await pay(books, 1_000) == "pin_locked"
        assert await pay(books, 1_000, payer_msisdn="254712000002", payee="0712000001") == "ok"
        assert await update(operator, books.people["otieno"], block=True) == "ok"
        assert await pay(books, 1_000, payer_msisdn="254712000002", payee="0712000003") == "pin_locked"
        with pytest.raises(InvalidRequestError, match=r"updates\[0\].block"):
            await update(operator, books.people["otieno"], block=False)


async def test_a_dormant_account_wakes_with_a_new_pin(books: Books) -> None:
    books.now_ns += 91 * 86_400 * 10**9
    assert quote(books, 1_000) == await pay(books, 1_000) == "payer_dormant"
    async with books.client("edge") as client:
        assert await change_pin(client) == "ok"
    assert quote(books, 1_000) == "ok"


async def test_the_day_of_a_sim_swap_is_kept(books: Books) -> None:
    wanjiku = books.people["wanjiku"]
    async with books.client() as client:
        assert await update(client, wanjiku, set_sim_swap_time_ns=START_NS) == "ok"
        assert await update(client, wanjiku, set_sim_swap_time_ns=START_NS * 2) == "sim_swap_time_malformed"
        assert await pay(books, 1_000) == "ok"
        assert await update(client, wanjiku, set_tier=0) == "ok"
        found = await client.lookup_accounts(ledger_pb2.LookupAccountsRequest(account_numbers=[wanjiku]))
    assert found.accounts[0].sim_swap_time_ns == START_NS // 10**9 * 10**9
    assert not int(books.node.store.columns[wanjiku, Column.FLAGS]) & AccountFlag.PIN_LOCKED


# Who bears the charge


async def test_a_biller_chooses_who_bears_the_charge(books: Books) -> None:
    bill = {"kind": payments_pb2.PAYMENT_KIND_PAY_BILL, "payee": "888880", "reference": "A1"}

    async def paid() -> tuple[int, int]:
        outcome = await books.pay(next(_numbers) << 70, amount_minor=20_000, **bill)
        assert outcome.status_name == "ok"
        return outcome.fee_minor, outcome.payee_fee_minor

    books.now_ns += 1
    tariff = books.book.quote(payments_pb2.Payment(payer_msisdn=WANJIKU, amount_minor=20_000, currency="KES", **bill))
    assert (tariff.fee_minor, await paid()) == (500, (500, 0))
    for bearer, told in (("business", (0, 500)), ("customer", (500, 0))):
        body = f'bearer = "{bearer}"'.encode()
        put = raft_pb2.PutDocument(kind="biller", key="KES/paybill/888880", body=body, author="Amina")
        books.node.command(put_document=put)
        assert await paid() == told
    columns, paybill = books.node.store.columns, books.people["paybill"]
    assert int(columns[paybill, Column.CREDITS_POSTED] - columns[paybill, Column.DEBITS_POSTED]) == 3 * 20_000 - 500
