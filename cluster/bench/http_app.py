"""The real USSD edge as an ASGI application for any server, its ledger out of reach: the main menu asks nothing of it.

KIBUBU_BENCH_CERTIFICATES names a folder with a certificate of the edge.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry

from cluster.certificates import tls_paths
from cluster.config_files import CURRENCY, SERVICE_CODE
from kibubu_client import Client, TlsFiles
from ussd_edge.app import EdgeSettings, GatewaySettings, UssdApp
from ussd_edge.sessions import KEY_BYTES
from ussd_edge.store import EmbeddedStore

CERTIFICATES_VARIABLE = "KIBUBU_BENCH_CERTIFICATES"


def _client() -> Client:
    paths = tls_paths(Path(os.environ[CERTIFICATES_VARIABLE]), "edge", "edge")
    return Client(["127.0.0.1:1"], TlsFiles(paths.ca, paths.cert, paths.key))


_STEPS_MAX = 1_000_000  # one handset asks as fast as it can here, and the rates must not answer for the menu
_settings = EdgeSettings(
    CURRENCY,
    SERVICE_CODE,
    {"africastalking": GatewaySettings(steps_per_second_max=_STEPS_MAX)},
    session_key=bytes(KEY_BYTES),
    handset_steps_per_minute_max=60 * _STEPS_MAX,
)
app = UssdApp(_client, EmbeddedStore, _settings, CollectorRegistry())
