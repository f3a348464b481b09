"""Nalo: JSON, one input at a time, `#` taken out of what was dialled. MSGTYPE is true for the first request; SESSIONID
may be missing, and then the phone's number stands for the session."""

from __future__ import annotations

from ussd_edge.gateways.fields import input_of, json_fields, json_reply, msisdn_of, session_of, tail_of, truth_of
from ussd_edge.gateways.seam import Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step

NAME = "nalo"


def parse(call: HttpCall, service_code: str) -> Step:
    if call.path:
        raise NoSuchPathError
    fields = json_fields(call.body, fold=True)
    msisdn = msisdn_of(fields, "msisdn")
    session_id = session_of(fields, "sessionid") if fields.get("sessionid", "").strip() else ""
    typed = input_of(fields, "userdata")
    echo = {"USERID": fields.get("userid", ""), "MSISDN": fields["msisdn"]}
    if session_id:
        echo["SESSIONID"] = session_id
    if truth_of(fields, "msgtype"):
        return Step(Phase.BEGIN, session_id, msisdn, tail=tail_of(typed[0], service_code), echo=echo)
    return Step(Phase.INPUT, session_id, msisdn, typed, echo=echo)


def render(step: Step, showing: Showing) -> Reply:
    """USERDATA is part of the answer's form; what was typed is not, for it may be a PIN."""
    return json_reply({**step.echo, "USERDATA": "", "MSGTYPE": not showing.ends, "MSG": showing.text})


GATEWAY = Gateway(NAME, frozenset({"POST"}), parse, render)
