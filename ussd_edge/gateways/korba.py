"""Korba and TxtGhana: JSON, one input at a time; `ussdServiceOp` 1 begins, 18 goes on."""

from __future__ import annotations

from ussd_edge.gateways.fields import choice_of, input_of, json_fields, json_reply, msisdn_of, session_of, tail_of
from ussd_edge.gateways.seam import Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step

NAME = "korba"
_BEGIN, _GO_ON, _ASK, _END = "1", "18", 2, 17
_OPERATIONS = {_BEGIN: Phase.BEGIN, _GO_ON: Phase.INPUT}


def parse(call: HttpCall, service_code: str) -> Step:
    if call.path:
        raise NoSuchPathError
    fields = json_fields(call.body)
    phase: Phase = choice_of(fields, "ussdServiceOp", _OPERATIONS)
    session_id, msisdn = session_of(fields, "sessionID"), msisdn_of(fields, "msisdn")
    typed = input_of(fields, "ussdString")
    if phase is Phase.BEGIN:
        return Step(phase, session_id, msisdn, tail=tail_of(typed[0], service_code))
    return Step(phase, session_id, msisdn, typed)


def render(step: Step, showing: Showing) -> Reply:
    return json_reply({"message": showing.text, "ussdServiceOp": _END if showing.ends else _ASK})


GATEWAY = Gateway(NAME, frozenset({"POST"}), parse, render)
