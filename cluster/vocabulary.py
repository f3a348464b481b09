"""The few numbers of the ledger's vocabulary that the cluster commands use.

A client knows the wire, not the node's modules; `tests/cluster/test_vocabulary.py` holds these equal to the node's own.
"""

from __future__ import annotations

from enum import IntEnum

STATUS_OK = 0
STATUS_NOT_FOUND = 65_535  # LookupTransfers
COMMAND_OK = 0
COMMAND_EXISTS = 1
COMMAND_DOCUMENT_VERSION_DIFFERS = 44
DEBITS_MUST_NOT_EXCEED_CREDITS = 1
CODE_ISSUE = 1
CODE_PRINCIPAL = 2
CODE_OPERATOR = 1_001  # transfers made by hand with `kibubu transfer`
CODE_BENCH = 1_002
CODE_CHAOS = 1_003


class AccountKind(IntEnum):
    CUSTOMER = 1
    TILL = 2
    PAYBILL = 3
    AGENT = 4
    ISSUANCE = 5
    FEE_REVENUE = 6
    EXCISE_DUTY = 7
    AIRTIME = 8
    LIQUIDITY = 9
    SUSPENSE = 10
    OTHER = 11
