"""What the fraud check decided, as the leader's metrics count it: a reply says only what became of the transfer."""

from __future__ import annotations

import urllib.request
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from cluster.layout import Layout

_COUNTED = {"kibubu_fraud_decisions": ("decided", "decision"), "kibubu_fraud_misses": ("sidecar", "reason")}
_TIMEOUT_S = 10.0


def decisions(layout: Layout, node_id: str) -> Counter[str]:
    """By decision, and the sidecar's misses by reason, since the node started. Raises OSError."""
    url = f"http://{layout.metrics_address(node_id)}/metrics"
    found: Counter[str] = Counter()
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            word, label = _COUNTED.get(family.name, ("", ""))
            for one in family.samples:
                if word and one.name == f"{family.name}_total":
                    found[f"{word}: {one.labels[label]}"] += int(one.value)
    return found
