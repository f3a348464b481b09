"""Writes the configuration of every process of a local cluster: TOML for ours, YAML for Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

from cluster.certificates import ensure_certificates, ensure_pin_key, ensure_session_key, tls_paths
from cluster.layout import CLUSTER_ID, EDGE, FRAUD, NODE_IDS, PROMETHEUS, REVIEW, SMS, Layout

OPERATOR = "operator"
FRAUD_DEADLINE_MS = 250  # ample: all processes of a local cluster, and what else runs there, share one machine
UNSCORED_ALLOW_MAX_MINOR = 100_000  # KES 1,000.00
CURRENCY = "KES"
SERVICE_CODE = "*384*100#"
# No gateway of a local cluster has a secret: its edge listens on loopback, and load tests use few phones.
_GATEWAYS = ("africastalking", "safaricom", "hubtel", "arkesel", "nalo", "mtn", "infobip", "airtel", "korba", "smpp")
_GATEWAY_STEPS_PER_SECOND_MAX = 100_000  # a measurement meets the edge, not this limit
_HANDSET_STEPS_PER_MINUTE_MAX = 100_000
_MAP_GIB = 64  # address space, not disk: LMDB's file grows only as far as it is used
_CHECKPOINT_INTERVAL_S = 5.0
NEW_CLUSTER = "new-cluster"  # as node/storage/data_folder.py looks for it
PROMETHEUS_SOURCES = Path(__file__).resolve().parent / "prometheus"


def prepare(layout: Layout) -> None:
    """Folders, certificates, key and configuration; twice changes nothing."""
    for folder in ("config", "data", "logs", "run"):
        (layout.home / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    roles = [("node", node_id) for node_id in NODE_IDS]
    roles += [("fraud", FRAUD), ("edge", EDGE), ("operator", OPERATOR), ("prometheus", PROMETHEUS)]
    roles += [("outbox", SMS), ("review", REVIEW)]
    ensure_certificates(layout.certificates, roles)
    ensure_pin_key(layout.pin_key_file)
    ensure_session_key(layout.session_key_file)
    _mark_new_cluster(layout)
    for node_id in NODE_IDS:
        _write(layout.config_file(node_id), node_config(layout, node_id))
    _write(layout.config_file(FRAUD), fraud_config(layout))
    _write(layout.config_file(EDGE), edge_config(layout))
    _write(layout.config_file(SMS), sms_config(layout))
    _write(layout.config_file(REVIEW), review_config(layout))
    _write(layout.config_file(PROMETHEUS), prometheus_config(layout))


def _mark_new_cluster(layout: Layout) -> None:
    """Only once in a cluster's life: a node that loses its disk later must not take itself for a new one."""
    created = layout.home / "created"
    if created.exists():
        return
    folders = [layout.data_dir(node_id) for node_id in NODE_IDS]
    if not any((folder / "raft").exists() for folder in folders):
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder / NEW_CLUSTER).touch()
    created.touch()


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _quoted(value: str | Path) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(str(value), ensure_ascii=False)


def _tls_table(layout: Layout, role: str, name: str) -> str:
    paths = tls_paths(layout.certificates, role, name)
    return f"[tls]\nca = {_quoted(paths.ca)}\ncert = {_quoted(paths.cert)}\nkey = {_quoted(paths.key)}\n"


def node_config(layout: Layout, node_id: str) -> str:
    peers = "".join(
        f"\n[[peers]]\nnode_id = {_quoted(peer)}\npeer_address = {_quoted(layout.peer_address(peer))}\n"
        f"api_address = {_quoted(layout.api_address(peer))}\n"
        for peer in NODE_IDS
        if peer != node_id
    )
    return f"""node_id = {_quoted(node_id)}
cluster_id = {_quoted(CLUSTER_ID)}
data_dir = {_quoted(layout.data_dir(node_id))}

[listen]
api = {_quoted(layout.api_address(node_id))}
peer = {_quoted(layout.peer_address(node_id))}
metrics = {_quoted(layout.metrics_address(node_id))}

{_tls_table(layout, "node", node_id)}
[pin]
key_file = {_quoted(layout.pin_key_file)}

[fraud]
address = {_quoted(layout.fraud_address)}
deadline_ms = {FRAUD_DEADLINE_MS}
unscored_allow_max_minor = {UNSCORED_ALLOW_MAX_MINOR}
score_transfers = true

[ledger]
map_gib = {_MAP_GIB}
checkpoint_interval_s = {_CHECKPOINT_INTERVAL_S}
{peers}"""


def fraud_config(layout: Layout) -> str:
    return f"""model_dir = {_quoted(layout.fraud_model_dir)}

[listen]
grpc = {_quoted(layout.fraud_address)}
metrics = {_quoted(layout.metrics_address(FRAUD))}

{_tls_table(layout, "fraud", FRAUD)}"""


def edge_config(layout: Layout) -> str:
    nodes = ", ".join(_quoted(address) for address in layout.api_addresses)
    openness = f"open = true\nsteps_per_second_max = {_GATEWAY_STEPS_PER_SECOND_MAX}\n"
    gateways = "\n".join(f"[gateways.{name}]\n{openness}" for name in _GATEWAYS)
    return f"""nodes = [{nodes}]
currency = {_quoted(CURRENCY)}
service_code = {_quoted(SERVICE_CODE)}
handset_steps_per_minute_max = {_HANDSET_STEPS_PER_MINUTE_MAX}

[sessions]
key_file = {_quoted(layout.session_key_file)}

[listen]
http = {_quoted(layout.edge_address)}
metrics = {_quoted(layout.metrics_address(EDGE))}

{_tls_table(layout, "edge", EDGE)}
[development]
browser_phone = true
sms_file = {_quoted(layout.sms_file)}

{gateways}"""


def sms_config(layout: Layout) -> str:
    nodes = ", ".join(_quoted(address) for address in layout.api_addresses)
    return f"""nodes = [{nodes}]
book_file = {_quoted(layout.data_dir(SMS) / "outbox.sqlite")}
start = "beginning"

[gateway]
kind = "file"
file = {_quoted(layout.sms_file)}

[listen]
metrics = {_quoted(layout.metrics_address(SMS))}

{_tls_table(layout, "outbox", SMS)}"""


def review_config(layout: Layout) -> str:
    nodes = ", ".join(_quoted(address) for address in layout.api_addresses)
    return f"""nodes = [{nodes}]
analysts_file = {_quoted(layout.analysts_file)}

[listen]
http = {_quoted(layout.review_address)}
metrics = {_quoted(layout.metrics_address(REVIEW))}

{_tls_table(layout, "review", REVIEW)}"""


def prometheus_config(layout: Layout) -> str:
    template = (PROMETHEUS_SOURCES / "prometheus.yml.template").read_text(encoding="utf-8")
    nodes = "".join(
        f"      - targets: [{json.dumps(layout.metrics_address(node_id))}]\n"
        f"        labels: {{node: {json.dumps(node_id)}}}\n"
        for node_id in NODE_IDS
    )
    return (
        template.replace("@RULES@", json.dumps(str(PROMETHEUS_SOURCES / "*.rules.yml")))
        .replace("@NODES@\n", nodes)
        .replace("@FRAUD@", json.dumps(layout.metrics_address(FRAUD)))
        .replace("@EDGE@", json.dumps(layout.metrics_address(EDGE)))
        .replace("@SMS@", json.dumps(layout.metrics_address(SMS)))
        .replace("@REVIEW@", json.dumps(layout.metrics_address(REVIEW)))
        .replace("@PROMETHEUS@", json.dumps(layout.prometheus_address))
    )
