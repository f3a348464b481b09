"""Infobip (classic): JSON posted or put to /session/{id}/start, response, end or status, one input at a time."""

from __future__ import annotations

import re

from ussd_edge.gateways.fields import (
    Fields,
    input_of,
    json_fields,
    json_reply,
    msisdn_of,
    needed,
    session_of,
    tail_of,
)  # fmt: skip
from ussd_edge.gateways.seam import Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step

NAME = "infobip"
_PATH = re.compile(r"/session/([^/]+)/(start|response|end|status)", re.ASCII)


def parse(call: HttpCall, service_code: str) -> Step:
    found = _PATH.fullmatch(call.path)
    if found is None:
        raise NoSuchPathError
    session_id = session_of({"session id": found[1]}, "session id")
    fields = json_fields(call.body)
    if found[2] in ("end", "status"):
        msisdn = msisdn_of(fields, "msisdn") if "msisdn" in fields else ""
        return Step(Phase.END, session_id, msisdn, ending=found[2])
    msisdn = msisdn_of(fields, "msisdn")
    if found[2] == "response":
        return Step(Phase.INPUT, session_id, msisdn, input_of(fields, "text"))
    return Step(Phase.BEGIN, session_id, msisdn, tail=_tail(fields, service_code))


def _tail(fields: Fields, service_code: str) -> tuple[str, ...] | None:
    """The whole dialled string is in `text`, or `text` is empty and `shortCode` names the code."""
    if fields.get("text", "").strip():
        return tail_of(fields["text"], service_code)
    needed(fields, "shortCode")
    return tail_of(fields["shortCode"], service_code)


def render(step: Step, showing: Showing) -> Reply:
    if step.phase is Phase.END:
        return json_reply({"responseExitCode": 200, "responseMessage": ""})
    return json_reply(
        {"shouldClose": showing.ends, "ussdMenu": showing.text, "responseExitCode": 200, "responseMessage": ""}
    )


GATEWAY = Gateway(NAME, frozenset({"POST", "PUT"}), parse, render)
