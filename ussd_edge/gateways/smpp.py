"""SMPP, as ussd_edge/smpp passes a message centre's deliver_sm on: JSON, one input at a time. `op` is the number of
SMPP 3.4's ussd_service_op (5.3.2.44); `session` is missing where the centre numbers none, and then the phone's number
stands for it."""

from __future__ import annotations

from ussd_edge.gateways.fields import input_of, json_fields, json_reply, msisdn_of, needed, session_of, tail_of
from ussd_edge.gateways.seam import BadRequestError, Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step

NAME = "smpp"
PSSR_INDICATION, USSR_CONFIRM, USSN_CONFIRM, USER_ABORT = 1, 18, 19, 0x81
_ENDINGS = {str(USSN_CONFIRM): "notified", str(USER_ABORT): "abort"}


def parse(call: HttpCall, service_code: str) -> Step:
    if call.path:
        raise NoSuchPathError
    fields = json_fields(call.body)
    needed(fields, "op", "text", "code")
    session_id = session_of(fields, "session") if fields.get("session", "") else ""
    msisdn, op = msisdn_of(fields, "msisdn"), fields["op"]
    if op in _ENDINGS:
        return Step(Phase.END, session_id, msisdn, ending=_ENDINGS[op])
    if op == str(PSSR_INDICATION):
        dialled = fields["text"].strip() or fields["code"]
        return Step(Phase.BEGIN, session_id, msisdn, tail=tail_of(dialled, service_code))
    if op == str(USSR_CONFIRM):
        return Step(Phase.INPUT, session_id, msisdn, input_of(fields, "text"))
    raise BadRequestError(f"op: must be one of {PSSR_INDICATION}, {USSR_CONFIRM}, {USSN_CONFIRM}, {USER_ABORT}")


def render(step: Step, showing: Showing) -> Reply:
    return json_reply({"text": showing.text, "ends": showing.ends, "silent": step.phase is Phase.END})


GATEWAY = Gateway(NAME, frozenset({"POST"}), parse, render)
