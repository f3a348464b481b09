"""After the warm-up nothing is left to compile, or to load from the cache, for what a node does first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from kibubu.raft.v1 import raft_pb2

from node.ledger.entry import encode_entry
from node.ledger.overlay import FIELDS, extract_in_order
from node.ledger.records import TRANSFER, TransferFlag
from node.ledger.scoring import payments_of, words_of, write_decisions
from node.ledger.statuses import PaymentStatus, TransferCode
from node.payments.limits import limit_broken
from node.service.account_usage import usage_of
from tests.service.one_node import START_NS, OneNode

# In a process of its own: in this one other tests have loaded the kernels already.
SCRIPT = """
import sys
from pathlib import Path
from numba.core.registry import CPUDispatcher
from node.ledger import features, kernel, overlay, scoring, tables, usage
from node.payments import pin_tries
from node.storage import id_kernels
from node.warm_up import warm_up
from tests.service.test_warm_up import work

def loaded():
    modules = (features, kernel, overlay, scoring, tables, usage, pin_tries, id_kernels)
    kernels = (value for module in modules for value in vars(module).values())
    return {value.py_func.__qualname__: len(value.signatures) for value in kernels if isinstance(value, CPUDispatcher)}

if sys.argv[2] == "warm":
    warm_up()
before = loaded()
work(Path(sys.argv[1]))
print(*(name for name, count in loaded().items() if count != before[name]))
"""


def work(folder: Path) -> None:
    node = OneNode(folder)
    people = node.people()
    node.store.checkpoint(wait=True)
    records = np.zeros(3, dtype=TRANSFER)
    records["id_lo"], records["code"], records["ledger"] = (900, 901, 902), 1_001, 404
    records["debit_account"], records["credit_account"] = people["wanjiku"], people["otieno"]
    records["amount_minor"], records["flags"] = 5, (int(TransferFlag.LINKED), int(TransferFlag.LINKED), 0)
    for _ in range(2):
        node.write(encode_entry(START_NS, transfers=records.tobytes()))
    payment = np.array([[people["wanjiku"], people["otieno"], 100, 1, 2]], dtype=np.int64)
    extract_in_order(node.store.columns, np.zeros((0, FIELDS), dtype=np.int64), payment, START_NS)
    packed = bytearray(records.tobytes())
    payments, scored = payments_of(node.store.columns, words_of(bytes(packed)), np.array([1_001], dtype=np.int64))
    decisions, scores_ppm = np.ones(scored, dtype=np.uint8), np.zeros(scored, dtype=np.int64)
    write_decisions(words_of(packed), payments, decisions, scores_ppm, decisions, 1)
    tier = b'[[tier]]\nnumber = 1\nname = "n"\ncurrency = "KES"\nutc_offset_minutes = 180\nday = 5\n'
    node.command(put_document=raft_pb2.PutDocument(kind="tiers", key="tiers", body=tier, author="n"))
    node.command(set_tier=raft_pb2.SetTier(account_number=people["wanjiku"], tier=1))
    columns, parties = node.store.columns, (people["wanjiku"], people["otieno"])
    assert (
        limit_broken(columns, node.store.tiers, *parties, 501, TransferCode.PRINCIPAL, START_NS) is not PaymentStatus.OK
    )
    assert usage_of(columns[people["wanjiku"]].copy(), node.store.tiers, START_NS) is not None
    assert node.store.lookup_transfer(901) is not None
    assert node.store.statement(people["otieno"], 0, 10)
    node.store.checkpoint(wait=True)
    node.store.close()


def loaded_by_work(folder: Path, start: str) -> set[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), start]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_warm_node_loads_no_kernel_while_it_serves(tmp_path: Path) -> None:
    assert loaded_by_work(tmp_path, "warm") == set()


def test_a_cold_one_would(tmp_path: Path) -> None:
    assert {
        "check_limits",
        "used",
        "apply_batch",
        "find_ids",
        "candidates",
        "_in_order",
        "write_decisions",
    } <= loaded_by_work(tmp_path, "cold")
