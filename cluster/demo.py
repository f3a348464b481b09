"""The demo's people, shops and system accounts. Every id is fixed, so seeding twice changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kibubu.config.v1 import config_pb2, config_pb2_grpc
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster.accounts import LEDGER_KES
from cluster.calls import Caller
from cluster.ids import fixed_id
from cluster.vocabulary import (
    CODE_ISSUE,
    COMMAND_DOCUMENT_VERSION_DIFFERS,
    COMMAND_EXISTS,
    COMMAND_OK,
    DEBITS_MUST_NOT_EXCEED_CREDITS,
    STATUS_OK,
    AccountKind,
)

DEMO_PIN = "2468"
OPENING_MINOR = 1_000_000  # KES 10,000.00
FLOAT_MINOR = 10_000_000
LIQUIDITY_UGX_MINOR = 50_000_000
LEDGER_UGX = 800
ISSUANCE = "KES/issuance"
TIERS_FILE, TIER_OF_KENYA = Path(__file__).resolve().parent / "samples" / "tiers.toml", 1


class SeedError(Exception):
    """The ledger did not take the demo data; the message has its reason."""


@dataclass(frozen=True, slots=True)
class DemoAccount:
    name: str
    key: str
    value: str
    kind: AccountKind
    flags: int = DEBITS_MUST_NOT_EXCEED_CREDITS
    pin: str = ""
    opening_minor: int = 0
    tier: int = 0
    phone: str = ""  # from which an agent or a business dials
    ledger: int = LEDGER_KES


SYSTEM_ACCOUNTS = (
    DemoAccount("E-money issued", "system", ISSUANCE, AccountKind.ISSUANCE, flags=0),
    DemoAccount("Fees", "system", "KES/fees", AccountKind.FEE_REVENUE),
    DemoAccount("Excise duty", "system", "KES/excise", AccountKind.EXCISE_DUTY),
    DemoAccount("Airtime", "system", "KES/airtime", AccountKind.AIRTIME),
    DemoAccount("Commissions paid", "system", "KES/commissions", AccountKind.OTHER, flags=0),
    DemoAccount("Vouchers", "system", "KES/vouchers", AccountKind.SUSPENSE),
)
# Uganda, for money that goes there: its shilling has no cents, so a minor unit is one of them.
ABROAD = (
    DemoAccount("Liquidity", "system", "KES/liquidity", AccountKind.LIQUIDITY),
    DemoAccount("E-money issued", "system", "UGX/issuance", AccountKind.ISSUANCE, flags=0, ledger=LEDGER_UGX),
    DemoAccount(
        "Liquidity",
        "system",
        "UGX/liquidity",
        AccountKind.LIQUIDITY,
        opening_minor=LIQUIDITY_UGX_MINOR,
        ledger=LEDGER_UGX,
    ),
    DemoAccount("Nakato", "msisdn", "256772000001", AccountKind.CUSTOMER, pin=DEMO_PIN, ledger=LEDGER_UGX),
)
RATE = ("KES/UGX", b'# A sample rate: Ugandan shillings for one Kenyan one.\nrate = "28.45"\nvalid_s = 300\n')
CUSTOMERS = tuple(
    DemoAccount(
        name, "msisdn", msisdn, AccountKind.CUSTOMER, pin=DEMO_PIN, opening_minor=OPENING_MINOR, tier=TIER_OF_KENYA
    )
    for name, msisdn in (("Wanjiku", "254712000001"), ("Otieno", "254712000002"), ("Achieng", "254712000003"))
)
MERCHANTS = (
    DemoAccount("Mama Mboga", "till", "123456", AccountKind.TILL, pin=DEMO_PIN, phone="254712000201"),
    DemoAccount("Kibubu Power", "paybill", "888880", AccountKind.PAYBILL, pin=DEMO_PIN, phone="254712000202"),
)
AGENTS = tuple(
    DemoAccount(
        name,
        "agent",
        number,
        AccountKind.AGENT,
        pin=DEMO_PIN,
        opening_minor=FLOAT_MINOR,
        phone=f"2547120001{number[-2:]}",
    )
    for name, number in (("Duka la Juma", "20001"), ("Kioski cha Amina", "20002"))
)


def seed(caller: Caller) -> None:
    _put_tiers(caller)
    create_accounts(caller, [*SYSTEM_ACCOUNTS, *CUSTOMERS, *MERCHANTS, *AGENTS])
    create_accounts(caller, [*ABROAD])
    _put_rate(caller, *RATE)


def _put_rate(caller: Caller, pair: str, body: bytes) -> None:
    """The first version alone: an operator's own rate stays."""
    request = config_pb2.PutDocumentRequest(
        request_id=fixed_id(f"rate {pair}"), kind="rates", key=pair, body=body, author="demo", replaces_version=0
    )
    answer = caller.leader(lambda c: config_pb2_grpc.ConfigServiceStub(c).PutDocument, request)
    if answer.status not in (COMMAND_OK, COMMAND_EXISTS, COMMAND_DOCUMENT_VERSION_DIFFERS):
        raise SeedError(f"rate {pair}: {answer.status_name}")


def _put_tiers(caller: Caller) -> None:
    """The sample, unless an operator has put others, to which it need not fit."""
    wanted = config_pb2.ListDocumentsRequest(kind="tiers", page_size=1)
    if caller.leader(lambda c: config_pb2_grpc.ConfigServiceStub(c).ListDocuments, wanted).documents:
        return
    put = config_pb2.PutDocumentRequest(
        request_id=fixed_id("tiers"), kind="tiers", body=TIERS_FILE.read_bytes(), author="kibubu up", replaces_version=0
    )
    caller.leader(lambda c: config_pb2_grpc.ConfigServiceStub(c).PutDocument, put)


def create_accounts(caller: Caller, accounts: list[DemoAccount]) -> dict[str, int]:
    """Creates them with PIN and opening balance; account numbers by handle value. Raises SeedError."""
    created = caller.leader(
        lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateAccounts,
        ledger_pb2.CreateAccountsRequest(accounts=[_new_account(account) for account in accounts]),
    )
    numbers: dict[str, int] = {}
    for account, result in zip(accounts, created.results, strict=True):
        if result.status not in (COMMAND_OK, COMMAND_EXISTS):
            raise SeedError(f"account {account.key}:{account.value}: {result.status_name}")
        numbers[account.value] = result.account_number
    _set_missing_pins(caller, accounts, numbers)
    _issue(caller, [account for account in accounts if account.opening_minor], numbers)
    return numbers


def _new_account(account: DemoAccount) -> ledger_pb2.NewAccount:
    return ledger_pb2.NewAccount(
        request_id=fixed_id(f"account {account.key}:{account.value}"),
        ledger=account.ledger,
        kind=int(account.kind),
        flags=account.flags,
        name=account.name,
        handles=[ledger_pb2.Handle(key=key, value=value) for key, value in _handles(account)],
        pin=account.pin,
        tier=account.tier,
    )


def _handles(account: DemoAccount) -> list[tuple[str, str]]:
    own = [(account.key, account.value)]
    return [*own, ("msisdn", account.phone)] if account.phone else own


def _set_missing_pins(caller: Caller, accounts: list[DemoAccount], numbers: dict[str, int]) -> None:
    """The PIN is a second entry behind the account's; a leader that died between the two left it out."""
    wanted = {numbers[account.value]: account for account in accounts if account.pin}
    if not wanted:
        return
    found = caller.leader(
        lambda c: ledger_pb2_grpc.LedgerServiceStub(c).LookupAccounts,
        ledger_pb2.LookupAccountsRequest(account_numbers=list(wanted)),
    )
    updates = [
        ledger_pb2.AccountUpdate(
            request_id=fixed_id(f"pin {wanted[row.account_number].value}"),
            account_number=row.account_number,
            set_pin=wanted[row.account_number].pin,
        )
        for row in found.accounts
        if not row.pin_is_set
    ]
    if not updates:
        return
    answer = caller.leader(
        lambda c: ledger_pb2_grpc.LedgerServiceStub(c).UpdateAccounts,
        ledger_pb2.UpdateAccountsRequest(updates=updates),
    )
    for result in answer.results:
        if result.status not in (COMMAND_OK, COMMAND_EXISTS):
            raise SeedError(f"PIN: {result.status_name}")


def _issue(caller: Caller, accounts: list[DemoAccount], numbers: dict[str, int]) -> None:
    if not accounts:
        return
    issuances = {LEDGER_UGX: numbers.get("UGX/issuance", 0)}
    if any(account.ledger == LEDGER_KES for account in accounts):
        issuances[LEDGER_KES] = numbers.get(ISSUANCE) or _issuance_account(caller)
    transfers = [
        ledger_pb2.Transfer(
            id=fixed_id(f"opening {account.key}:{account.value}"),
            debit_account=issuances[account.ledger],
            credit_account=numbers[account.value],
            amount_minor=account.opening_minor,
            ledger=account.ledger,
            code=CODE_ISSUE,
            narrative="opening balance",
        )
        for account in accounts
    ]
    answer = caller.leader(
        lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfers,
        ledger_pb2.CreateTransfersRequest(transfers=transfers),
    )
    for account, result in zip(accounts, answer.results, strict=True):
        if result.status != STATUS_OK:
            raise SeedError(f"opening balance of {account.key}:{account.value}: {result.status_name}")


def _issuance_account(caller: Caller) -> int:
    handle = ledger_pb2.Handle(key="system", value=ISSUANCE)
    found = caller.leader(
        lambda c: ledger_pb2_grpc.LedgerServiceStub(c).LookupAccounts,
        ledger_pb2.LookupAccountsRequest(handles=[handle]),
    )
    if found.accounts[0].account_number == 0:
        raise SeedError("there is no issuance account; `kibubu up` makes it")
    return found.accounts[0].account_number
