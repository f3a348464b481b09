"""What a node without a majority says: nothing may be acknowledged, and soon the answer must be a definite no."""

from __future__ import annotations

import time

import numpy as np
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster.accounts import LEDGER_KES
from cluster.calls import CallError, NotAppliedError
from cluster.chaos.events import Event
from cluster.chaos.ground import Ground
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_CHAOS

_FIRST_S = 2.0  # by then it must know that it leads nobody
_CALL_TIMEOUT_S = 5.0


class MinorityAnsweredError(AssertionError):
    """A node without a majority acknowledged a transfer."""


def probe_minority(ground: Ground, node_id: str, event: Event) -> None:
    """Notes how long a definite refusal takes once the node has had time to notice."""
    ground.hold(_FIRST_S)
    account = np.ones(1, np.uint64)
    form = template(1, amount_minor=1, ledger=LEDGER_KES, code=CODE_CHAOS)
    batch = fresh_batch(form, IdSource(), account, account + 1)
    started_s = time.monotonic()
    try:
        ground.caller.one(
            ground.layout.api_address(node_id),
            lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfersPacked,
            ledger_pb2.CreateTransfersPackedRequest(transfers=batch.tobytes()),
            timeout_s=_CALL_TIMEOUT_S,
        )
    except NotAppliedError:
        event.notes["minority_refuses_s"] = time.monotonic() - started_s
    except CallError as error:
        raise AssertionError(f"{node_id}, cut off, gives no definite answer: {error}") from error
    else:
        raise MinorityAnsweredError(f"{node_id} acknowledged a transfer although it was cut off from both others")
