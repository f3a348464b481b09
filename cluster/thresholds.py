"""What `kibubu fraud thresholds` does: reads the document of thresholds, changes a few of its numbers, writes it back.

The version that was read is the one that is replaced: of two who change it at once, one is told to look again."""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Sequence
from dataclasses import asdict

from kibubu.config.v1 import config_pb2, config_pb2_grpc

from cluster.calls import Caller, CallError
from node.ledger.fraud_costs import Costs

KIND, KEY = "fraud_thresholds", "all"
TWO_PERSON = "two_person_above_minor"
TWO_PERSON_ABOVE_MINOR = 5_000_000
_DONE = (0, 1)  # CommandStatus: ok, exists


def show(caller: Caller) -> str:
    version, table, author = _read(caller)
    head = f"version {version} by {author}" if version else "none was set; these are the defaults, and a model's costs"
    return "\n".join([head, *(f"  {name} = {value}" for name, value in table.items())])


def change(caller: Caller, changes: Sequence[str], author: str) -> str:
    """One line that says what is in force now. Raises CallError with name and rule."""
    version, table, _ = _read(caller)
    for one in changes:
        name, equals, text = one.partition("=")
        if not equals or name not in table:
            raise CallError(f"{name}: must be NAME=NUMBER with one of {', '.join(table)}")
        try:
            table[name] = int(text) if text.lstrip("-").isdecimal() else float(text)
        except ValueError as error:
            raise CallError(f"{name}: must be a number, is {text!r}") from error
    body = "".join(f"{name} = {value}\n" for name, value in table.items()).encode()
    request = config_pb2.PutDocumentRequest(
        request_id=secrets.token_bytes(16), kind=KIND, key=KEY, body=body, author=author, replaces_version=version
    )
    answer = caller.leader(lambda channel: config_pb2_grpc.ConfigServiceStub(channel).PutDocument, request)
    if answer.status not in _DONE:
        raise CallError(f"{answer.status_name}: somebody else changed it meanwhile; look again")
    return f"version {answer.version} is in force, position {answer.position}"


def _read(caller: Caller) -> tuple[int, dict[str, float], str]:
    """(version, table with the defaults filled in, author); version 0 = never set."""
    request = config_pb2.GetDocumentRequest(kind=KIND, key=KEY)
    answer = caller.leader(lambda channel: config_pb2_grpc.ConfigServiceStub(channel).GetDocument, request)
    table: dict[str, float] = {**asdict(Costs()), TWO_PERSON: TWO_PERSON_ABOVE_MINOR}
    if answer.found:
        table |= tomllib.loads(answer.document.body.decode())
    return answer.document.version, table, answer.document.author
