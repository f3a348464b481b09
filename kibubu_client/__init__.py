"""The public Python client: finds the leader, asks again with the same id, joins concurrent calls into batches."""

from kibubu_client.client import Client
from kibubu_client.errors import InvalidRequestError, KibubuError, NotAppliedError, UnknownOutcomeError
from kibubu_client.feed import Feed
from kibubu_client.ids import id_bytes, new_id
from kibubu_client.leader import TlsFiles
from kibubu_client.records import pack_transfer

__all__ = [
    "Client",
    "Feed",
    "InvalidRequestError",
    "KibubuError",
    "NotAppliedError",
    "TlsFiles",
    "UnknownOutcomeError",
    "id_bytes",
    "new_id",
    "pack_transfer",
]
