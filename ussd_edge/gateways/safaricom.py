"""Safaricom direct: a GET with ORIG, DEST, SESSION_ID and USSD_PARAMS, which holds everything behind the code's first
part: the rest of the code, what was dialled behind it, then every input."""

from __future__ import annotations

from ussd_edge.gateways.fields import msisdn_of, needed, query_fields, session_of, split_path
from ussd_edge.gateways.seam import Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step

NAME = "safaricom"


def parse(call: HttpCall, service_code: str) -> Step:
    if call.path:
        raise NoSuchPathError
    query = query_fields(call.query)
    needed(query, "ORIG", "DEST", "SESSION_ID", "USSD_PARAMS")
    inputs = _inputs(query["DEST"].strip(), query["USSD_PARAMS"], service_code)
    session_id, msisdn = session_of(query, "SESSION_ID"), msisdn_of(query, "ORIG")
    return Step(Phase.PATH, session_id, msisdn, inputs or (), () if inputs is not None else None)


def _inputs(dest: str, params: str, service_code: str) -> tuple[str, ...] | None:
    """None = another code. DEST is the code's first part or the whole of it."""
    own, typed = service_code.strip("*#"), dest.strip("*#") + (f"*{params.removesuffix('#')}" if params else "")
    if typed == own:
        return ()
    return split_path(typed[len(own) + 1 :]) if typed.startswith(f"{own}*") else None


def render(step: Step, showing: Showing) -> Reply:
    return Reply(f"{'END' if showing.ends else 'CON'} {showing.text}".encode())


GATEWAY = Gateway(NAME, frozenset({"GET"}), parse, render)
