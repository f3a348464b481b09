"""Every gateway's wire format, recorded call by call, and all that is not that format: each breach named, no value
repeated, nothing but BadRequestError."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ussd_edge.gateways import GATEWAYS
from ussd_edge.gateways.fields import tail_of
from ussd_edge.gateways.seam import BadRequestError, HttpCall, NoSuchPathError, Phase, Showing
from ussd_edge.limits import (
    FIELDS_MAX,
    INPUT_CHARACTERS_MAX,
    QUERY_BYTES_MAX,
    TEXT_CHARACTERS_MAX,
    TOKEN_CHARACTERS_MAX,
)

CODE = "*384*100#"
RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))
CALLS = [(name, number) for name, calls in RECORDED.items() for number in range(len(calls))]


def call_of(recorded: dict[str, Any], **changes: Any) -> HttpCall:
    """`changes`: fields with other values, None = left out."""
    fields = {**recorded["fields"], **changes}
    fields = {name: value for name, value in fields.items() if value is not None}
    in_query = recorded["method"] == "GET"
    encoded = urlencode(fields).encode() if in_query or recorded.get("form") else json.dumps(fields).encode()
    query, body = (encoded, b"") if in_query else (b"", encoded)
    return HttpCall(recorded["method"], recorded.get("path", ""), query, {}, body)


@pytest.mark.parametrize(("name", "number"), CALLS)
def test_a_recorded_call_is_understood_and_answered(name: str, number: int) -> None:
    recorded, gateway = RECORDED[name][number], GATEWAYS[name]
    assert recorded["method"] in gateway.methods
    step = gateway.parse(call_of(recorded), CODE)
    understood = recorded["understood"]
    assert step.phase is Phase(understood["phase"])
    assert step.session_id == understood.get("session", "s1")
    assert step.msisdn == understood.get("msisdn", "233241234567")
    assert list(step.inputs) == understood.get("inputs", [])
    assert (None if step.tail is None else list(step.tail)) == understood.get("tail")
    assert (step.token, step.ending) == (understood.get("token", ""), understood.get("ending", ""))
    answer = recorded["answer"]
    reply = gateway.render(step, Showing(answer.get("text", ""), answer.get("ends", True), answer.get("token", "")))
    body: Any = json.loads(reply.body) if b"json" in reply.content_type else reply.body.decode()
    assert body == answer["body"]
    assert {k.decode(): v.decode() for k, v in reply.headers} == answer.get("headers", {})


@pytest.mark.parametrize("name", list(GATEWAYS))
def test_every_gateway_is_recorded_from_the_first_call_to_the_last(name: str) -> None:
    phases = {one["understood"]["phase"] for one in RECORDED[name]}
    assert phases >= ({"path"} if "path" in phases else {"input"})
    assert {one["answer"].get("ends", True) for one in RECORDED[name]} == {True, False}


NEEDED = [
    (name, number, one) for name, number in CALLS for one in RECORDED[name][number]["needed"]
]  # fmt: skip


@pytest.mark.parametrize(("name", "number", "field"), NEEDED)
def test_a_field_that_is_missing_or_empty_or_nested_is_named(name: str, number: int, field: str) -> None:
    recorded = RECORDED[name][number]
    with pytest.raises(BadRequestError) as caught:
        GATEWAYS[name].parse(call_of(recorded, **{field: None}), CODE)
    assert str(caught.value).lower() == f"{field}: missing".lower()
    if recorded["method"] == "POST" and not recorded.get("form"):
        for nested in ([], {}, ["254712000001"], {"a": {"b": 1}}, 1.5):
            with pytest.raises(BadRequestError):
                GATEWAYS[name].parse(call_of(recorded, **{field: nested}), CODE)


NASTY = [
    "", " ", "a b", "x" * 129, "ü", "\x00", "\U0001f4a9" * 20, "-1", "1" * 400, "null", "254", "+2547120000012345",
    "٢٥٤٧١٢٠٠٠٠٠١", "\uff12\uff15\uff14712000001", "' OR 1=1 --", "../../etc", "true*", "9" * 70_000,
]  # fmt: skip


@pytest.mark.parametrize(("name", "number", "field"), NEEDED)
def test_a_value_that_breaks_a_rule_is_not_repeated(name: str, number: int, field: str) -> None:
    for value in NASTY:
        complaint, typed = complaint_about(name, call_of(RECORDED[name][number], **{field: value}))
        assert len(complaint) < 120
        assert not value.strip() or len(value) < 4 or value not in complaint
        assert sum(map(len, typed)) <= TEXT_CHARACTERS_MAX + 1


def complaint_about(name: str, call: HttpCall) -> tuple[str, tuple[str, ...]]:
    """What is said of the call, or what was typed in it."""
    try:
        step = GATEWAYS[name].parse(call, CODE)
    except BadRequestError as error:
        return str(error), ()
    return "", step.inputs + (step.tail or ())


@pytest.mark.parametrize(("name", "number"), CALLS)
def test_what_is_new_does_no_harm_and_what_is_doubled_or_too_much_is_refused(name: str, number: int) -> None:
    recorded, gateway = RECORDED[name][number], GATEWAYS[name]
    whole = call_of(recorded)
    as_it_was = gateway.parse(whole, CODE)
    assert gateway.parse(call_of(recorded, somethingNew="7", another="\U0001f4a9"), CODE) == as_it_was
    with pytest.raises(BadRequestError):
        gateway.parse(call_of(recorded, **{f"f{n}": "1" for n in range(FIELDS_MAX + 1)}), CODE)
    first = recorded["needed"][0] if recorded["needed"] else next(iter(recorded["fields"]))
    if whole.body.startswith(b"{"):
        doubled = HttpCall(whole.method, whole.path, b"", {}, b'{"%s": "x", ' % first.encode() + whole.body[1:])
    elif whole.body:
        doubled = HttpCall(whole.method, whole.path, b"", {}, whole.body + b"&" + urlencode({first: "x"}).encode())
    else:
        doubled = HttpCall(whole.method, whole.path, whole.query + b"&" + urlencode({first: "x"}).encode(), {}, b"")
    with pytest.raises(BadRequestError, match="there twice"):
        gateway.parse(doubled, CODE)


BODIES = [
    b"", b"\xff\xfe", b"null", b"[]", b"5", b'"x"', b"{", b"{}", b"[" * 50_000, b'{"a":' * 20_000, b'{"a": NaN}',
    b'{"a": 1e999}', b'{"a": ' + b"9" * 5_000 + b"}", b"text=%ff", b'{"a": "\\ud800"}', "{}".encode("utf-16"),
    b"a=1&a=2", b"<xml/>",
]  # fmt: skip


@pytest.mark.parametrize(("name", "number"), CALLS)
def test_a_body_that_is_none_is_refused(name: str, number: int) -> None:
    recorded = RECORDED[name][number]
    for body in BODIES if recorded["needed"] else ():
        where = {"query": body, "body": b""} if recorded["method"] == "GET" else {"query": b"", "body": body}
        call = HttpCall(recorded["method"], recorded.get("path", ""), headers={}, **where)
        assert complaint_about(name, call)[0], body[:20]


@given(st.sampled_from(CALLS), st.binary(max_size=300), st.text(max_size=30))
def test_any_bytes_are_a_step_or_a_bad_request(which: tuple[str, int], raw: bytes, path: str) -> None:
    name, number = which
    for at in (RECORDED[name][number].get("path", ""), path):
        with contextlib.suppress(BadRequestError, NoSuchPathError):
            GATEWAYS[name].parse(HttpCall("POST", at, raw, {}, raw), CODE)


@pytest.mark.parametrize("name", list(GATEWAYS))
def test_other_paths_are_not_there(name: str) -> None:
    for path in ("/", "/x", "/session/s1/start/x", "/session//start", "/messages/ussd", "//"):
        with pytest.raises(NoSuchPathError):
            GATEWAYS[name].parse(HttpCall("POST", path, b"", {}, b""), CODE)


def test_a_query_and_a_token_have_a_limit() -> None:
    with pytest.raises(BadRequestError, match="query: at most"):
        GATEWAYS["airtel"].parse(HttpCall("GET", "", b"a=" + b"1" * QUERY_BYTES_MAX, {}, b""), CODE)
    going_on = next(one for one in RECORDED["hubtel"] if one["understood"]["phase"] == "input")
    long = call_of(going_on, ClientState="x" * (TOKEN_CHARACTERS_MAX + 1))
    with pytest.raises(BadRequestError, match="clientstate: at most"):
        GATEWAYS["hubtel"].parse(long, CODE)


@pytest.mark.parametrize(
    ("dialled", "tail"),
    [
        ("*384*100#", ()), ("384*100", ()), ("*384*100", ()), ("384100", ()), ("", ()), (" *384*100# ", ()),
        ("*384*100*1*0712000002*500#", ("1", "0712000002", "500")), ("384*100*5", ("5",)), ("*384*1001#", None),
        ("*384#", None), ("*999#", None), ("384", None), ("*384*100**#", ()), ("*384*100**1#", ("", "1")), ("1", None),
    ],
)  # fmt: skip
def test_what_was_dialled_behind_the_code(dialled: str, tail: tuple[str, ...] | None) -> None:
    assert tail_of(dialled, CODE) == tail


def test_a_dialled_string_without_end_is_one_input_that_is_too_long() -> None:
    tail = tail_of("*384*100*" + "1*" * 5_000 + "#", CODE)
    assert tail is not None
    assert [len(one) > INPUT_CHARACTERS_MAX for one in tail] == [True]
