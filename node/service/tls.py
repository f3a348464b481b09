"""Mutual TLS for every port and every channel: both sides show a certificate of the operator's own authority."""

from __future__ import annotations

from pathlib import Path

import grpc

SERVER_NAME = "kibubu"  # in every certificate, so that addresses may change


def load_server_credentials(ca: Path, cert: Path, key: Path) -> grpc.ServerCredentials:
    """Raises OSError when a file is missing."""
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())], root_certificates=ca.read_bytes(), require_client_auth=True
    )


def load_channel_credentials(ca: Path, cert: Path, key: Path) -> grpc.ChannelCredentials:
    pair = {"private_key": key.read_bytes(), "certificate_chain": cert.read_bytes()}
    return grpc.ssl_channel_credentials(ca.read_bytes(), **pair)
