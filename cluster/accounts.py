"""Finds accounts as people name them: a phone number, `till:123456`, `system:KES/fees`, or `#12` for number 12."""

from __future__ import annotations

from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster.calls import Caller

LEDGER_KES = 404
HANDLE_KEYS = ("msisdn", "till", "paybill", "agent", "walletid", "system")


class AccountNameError(Exception):
    """No account has this name, or it is not the form of a name."""


def handle_of(name: str) -> ledger_pb2.Handle:
    key, colon, value = name.partition(":")
    if not colon:
        key, value = "msisdn", name.removeprefix("+")
    if key not in HANDLE_KEYS:
        raise AccountNameError(f"{name}: {key!r} is no kind of handle; there are {', '.join(HANDLE_KEYS)}")
    if key == "msisdn" and not (value.isascii() and value.isdecimal() and 7 <= len(value) <= 15):
        raise AccountNameError(f"{name}: write a phone number in full (254712000001) or key:value (till:123456)")
    return ledger_pb2.Handle(key=key, value=value)


def find_account(caller: Caller, name: str) -> ledger_pb2.Account:
    """Raises AccountNameError when there is none."""
    if name.startswith("#"):
        if not (name[1:].isascii() and name[1:].isdecimal()):
            raise AccountNameError(f"{name}: an account number is digits after the #")
        request = ledger_pb2.LookupAccountsRequest(account_numbers=[int(name[1:])])
    else:
        request = ledger_pb2.LookupAccountsRequest(handles=[handle_of(name)])
    account = caller.leader(lambda c: ledger_pb2_grpc.LedgerServiceStub(c).LookupAccounts, request).accounts[0]
    if account.account_number == 0:
        raise AccountNameError(f"there is no account {name}")
    return account
