"""Airtel (Comviva Flares 1.5): a GET, one input at a time; the first input is the code without its signs, and only our
own memory tells it from a later one. The answer's headers say whether the session goes on."""

from __future__ import annotations

from ussd_edge.gateways.fields import input_of, msisdn_of, query_fields, session_of, tail_of
from ussd_edge.gateways.seam import BadRequestError, Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step

NAME = "airtel"


def parse(call: HttpCall, service_code: str) -> Step:
    if call.path:
        raise NoSuchPathError
    query = query_fields(call.query, fold=True)  # SessionID in one document, sessionid on the wire
    session_id, msisdn = session_of(query, "sessionid"), msisdn_of(query, "msisdn")
    if "clean" in query:
        return Step(Phase.END, session_id, msisdn, ending="clean")
    typed = input_of(query, "input")
    return Step(Phase.INPUT, session_id, msisdn, typed, tail_of(typed[0], service_code) if typed[0].strip() else None)


def presented(call: HttpCall) -> bytes:
    """`userid:password` of the query."""
    try:
        query = query_fields(call.query, fold=True)
    except BadRequestError:
        return b""
    return f"{query.get('userid', '')}:{query.get('password', '')}".encode()


def render(step: Step, showing: Showing) -> Reply:
    headers = ((b"Freeflow", b"FB" if showing.ends else b"FC"), (b"charge", b"N"), (b"amount", b"0"))
    return Reply(showing.text.encode(), headers=headers)


GATEWAY = Gateway(NAME, frozenset({"GET"}), parse, render, presented)
