"""The public Python client with an operator's certificate, for the load generators."""

from __future__ import annotations

from cluster.certificates import tls_paths
from cluster.config_files import OPERATOR
from cluster.layout import Layout
from kibubu_client import Client, TlsFiles


def operator_client(layout: Layout, *, deadline_s: float = 10.0) -> Client:
    """Needs a running event loop."""
    paths = tls_paths(layout.certificates, "operator", OPERATOR)
    return Client(layout.api_addresses, TlsFiles(paths.ca, paths.cert, paths.key), deadline_s=deadline_s)
