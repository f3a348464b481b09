"""MTN MADAPI: JSON posted to /messages/ussd/inbound, one input at a time, `messageType` tells the phases; its key comes
in the header x-api-key."""

from __future__ import annotations

from ussd_edge.gateways.fields import choice_of, input_of, json_fields, json_reply, msisdn_of, session_of, tail_of
from ussd_edge.gateways.seam import Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step

NAME = "mtn"
PATH = "/messages/ussd/inbound"
_TYPES = {
    "0": (Phase.BEGIN, ""), "1": (Phase.INPUT, ""), "2": (Phase.END, "end"), "3": (Phase.END, "notify"),
    "4": (Phase.END, "cancel"), "5": (Phase.END, "timeout"),
}  # fmt: skip


def parse(call: HttpCall, service_code: str) -> Step:
    if call.path not in ("", PATH):
        raise NoSuchPathError
    fields = json_fields(call.body)
    phase, ending = choice_of(fields, "messageType", _TYPES)
    session_id, msisdn = session_of(fields, "sessionId"), msisdn_of(fields, "msisdn")
    echo = {"serviceCode": fields.get("serviceCode", ""), "msisdn": fields["msisdn"]}
    if phase is Phase.END:
        return Step(phase, session_id, msisdn, ending=ending, echo=echo)
    typed = input_of(fields, "ussdString")
    if phase is Phase.BEGIN:
        dialled = typed[0].strip() or fields.get("serviceCode", "")
        return Step(phase, session_id, msisdn, tail=tail_of(dialled, service_code), echo=echo)
    return Step(phase, session_id, msisdn, typed, echo=echo)


def render(step: Step, showing: Showing) -> Reply:
    data = {
        "inboundResponse": showing.text, "userInputRequired": not showing.ends,
        "messageType": "2" if showing.ends else "1", **step.echo,
    }  # fmt: skip
    return json_reply(
        {
            "statusCode": "0000", "statusMessage": "Success", "transactionId": step.session_id, "data": data,
            "_link": {"self": {"href": PATH}},
        }
    )  # fmt: skip


GATEWAY = Gateway(
    NAME, frozenset({"POST"}), parse, render, presented=lambda call: call.headers.get(b"x-api-key", b"")
)  # fmt: skip
