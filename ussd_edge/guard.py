"""Who may call as a gateway: by its shared secret, by an HMAC over what it sends, by its address; all that are
configured must fit."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass

from ussd_edge.gateways.seam import Gateway, HttpCall

SIGNATURE_HEADER = b"x-kibubu-signature"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Access:
    """`secret` and `hmac_key`: empty = not asked for. `networks`: None = from anywhere."""

    secret: bytes = b""
    hmac_key: bytes = b""
    networks: tuple[Network, ...] | None = None


def may_call(access: Access, gateway: Gateway, call: HttpCall) -> bool:
    if access.networks is not None and not _is_within(access.networks, call.address):
        return False
    if access.secret and not hmac.compare_digest(access.secret, gateway.presented(call)):
        return False
    return not access.hmac_key or hmac.compare_digest(
        signature(access.hmac_key, gateway.name, call), call.headers.get(SIGNATURE_HEADER, b"").lower()
    )


def signature(key: bytes, gateway_name: str, call: HttpCall) -> bytes:
    """Hex HMAC-SHA256 over method, path, query and body, each on a line of its own; the path is /ussd/NAME..."""
    path = f"/ussd/{gateway_name}{call.path}"
    signed = b"\n".join((call.method.encode(), path.encode(), call.query, call.body))
    return hmac.new(key, signed, hashlib.sha256).hexdigest().encode()


def _is_within(networks: tuple[Network, ...], address: str) -> bool:
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(caller, "ipv4_mapped", None)
    return any((mapped or caller) in network for network in networks)
