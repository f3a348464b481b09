"""Africa's Talking: a form POST with all inputs joined by `*`; the answer is plain text that begins with CON or END.
When a session is over it posts an event to /events."""

from __future__ import annotations

from ussd_edge.gateways.fields import choice_of, form_fields, msisdn_of, needed, session_of, split_path
from ussd_edge.gateways.seam import Gateway, HttpCall, NoSuchPathError, Phase, Reply, Showing, Step

NAME = "africastalking"
_ENDINGS = {"success": "success", "incomplete": "incomplete", "failed": "failed"}


def parse(call: HttpCall, service_code: str) -> Step:
    if call.path == "/events":
        return _event(call.body)
    if call.path:
        raise NoSuchPathError
    form = form_fields(call.body)
    needed(form, "sessionId", "serviceCode", "phoneNumber", "text")
    session_id, msisdn = session_of(form, "sessionId"), msisdn_of(form, "phoneNumber")
    tail = () if form["serviceCode"] == service_code else None
    return Step(Phase.PATH, session_id, msisdn, split_path(form["text"]), tail)


def _event(body: bytes) -> Step:
    """Cost, hops and the last screen are in it too; of interest here is only how the session ended."""
    form = form_fields(body)
    ending = choice_of(form, "status", _ENDINGS)
    return Step(Phase.END, session_of(form, "sessionId"), msisdn_of(form, "phoneNumber"), ending=ending)


def render(step: Step, showing: Showing) -> Reply:
    if step.phase is Phase.END:
        return Reply(b"")
    return Reply(f"{'END' if showing.ends else 'CON'} {showing.text}".encode())


GATEWAY = Gateway(NAME, frozenset({"POST"}), parse, render)
