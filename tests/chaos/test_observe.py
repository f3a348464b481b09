"""The log's published form, as chaos decodes it by itself, is the node's own."""

from __future__ import annotations

from cluster.chaos import observe
from node.ledger import entry, records


def test_the_decoded_form_is_the_nodes() -> None:
    assert records.OUTCOME == observe.OUTCOME
    assert entry.HEADER.format == observe._HEADER.format
    assert records.PAYMENT.itemsize == observe._PAYMENT_BYTES
    assert records.TRANSFER == observe.TRANSFER
