"""Hubtel: JSON, one input at a time; it hands ClientState back with the next one, so nothing is kept here. The case of
its field names differs between its documents and what it sends."""

from __future__ import annotations

from ussd_edge.gateways.fields import (
    choice_of,
    input_of,
    json_fields,
    json_reply,
    msisdn_of,
    session_of,
    tail_of,
)  # fmt: skip
from ussd_edge.gateways.seam import BadRequestError, Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step
from ussd_edge.limits import TOKEN_CHARACTERS_MAX

NAME = "hubtel"
_TYPES = {
    "initiation": Phase.BEGIN, "response": Phase.INPUT, "release": Phase.END, "timeout": Phase.END,
}  # fmt: skip


def parse(call: HttpCall, service_code: str) -> Step:
    if call.path:
        raise NoSuchPathError
    fields = json_fields(call.body, fold=True)
    phase: Phase = choice_of(fields, "type", _TYPES)
    session_id, msisdn = session_of(fields, "sessionid"), msisdn_of(fields, "mobile")
    echo = {"SessionId": session_id}
    if phase is Phase.END:
        return Step(phase, session_id, msisdn, ending=fields["type"].strip().lower(), echo=echo)
    typed = input_of(fields, "message")
    if phase is Phase.BEGIN:
        return Step(phase, session_id, msisdn, tail=tail_of(typed[0], service_code), echo=echo)
    token = fields.get("clientstate", "")
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise BadRequestError(f"clientstate: at most {TOKEN_CHARACTERS_MAX} characters")
    return Step(phase, session_id, msisdn, typed, token=token, echo=echo)


def render(step: Step, showing: Showing) -> Reply:
    content = {
        **step.echo, "Type": "Release" if showing.ends else "Response", "Message": showing.text, "Label": "Kibubu",
        "ClientState": showing.token, "DataType": "display" if showing.ends else "input", "FieldType": "text",
    }  # fmt: skip
    return json_reply(content)


GATEWAY = Gateway(NAME, frozenset({"POST"}), parse, render, carries_token=True)
