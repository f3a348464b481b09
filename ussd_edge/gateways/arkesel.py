"""Arkesel: JSON, one input at a time; `newSession` says which is the first."""

from __future__ import annotations

from ussd_edge.gateways.fields import input_of, json_fields, json_reply, msisdn_of, session_of, tail_of, truth_of
from ussd_edge.gateways.seam import Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step

NAME = "arkesel"


def parse(call: HttpCall, service_code: str) -> Step:
    if call.path:
        raise NoSuchPathError
    fields = json_fields(call.body)
    session_id, msisdn = session_of(fields, "sessionID"), msisdn_of(fields, "msisdn")
    typed = input_of(fields, "userData")
    echo = {"sessionID": session_id, "userID": fields.get("userID", ""), "msisdn": fields["msisdn"]}
    if truth_of(fields, "newSession"):
        return Step(Phase.BEGIN, session_id, msisdn, tail=tail_of(typed[0], service_code), echo=echo)
    return Step(Phase.INPUT, session_id, msisdn, typed, echo=echo)


def render(step: Step, showing: Showing) -> Reply:
    return json_reply({**step.echo, "message": showing.text, "continueSession": not showing.ends})


GATEWAY = Gateway(NAME, frozenset({"POST"}), parse, render)
