"""`kibubu status` and `kibubu verify`: what the nodes are, and whether their books are right and the same."""

from __future__ import annotations

from dataclasses import dataclass, field

from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc
from rich.table import Table

from cluster import processes
from cluster.calls import Caller, CallError
from cluster.health import node_status
from cluster.layout import Layout

VERIFY_TIMEOUT_S = 600.0
_HASH_DIGITS = 12


def status_table(layout: Layout, caller: Caller) -> Table:
    found = {node_id: node_status(caller, layout.api_address(node_id)) for node_id in layout.node_ids}
    highest = max((status.commit_position for status in found.values() if status), default=0)
    table = Table(title="Kibubu cluster")
    table.add_column("node")
    for title in ("role", "term", "commit", "applied", "lag", "hash", "transfers", "TPS"):
        table.add_column(title, justify="left" if title in ("role", "hash") else "right")
    for node_id, status in found.items():
        if status is None:
            runs = processes.find_process(layout.pid_file(node_id)) is not None
            table.add_row(node_id, "does not answer" if runs else "not running", *["-"] * 7)
            continue
        table.add_row(
            node_id,
            status.role if status.voter else "joining",
            str(status.term),
            str(status.commit_position),
            str(status.applied_position),
            str(max(highest - status.applied_position, 0)),
            status.chain_hash.hex()[:_HASH_DIGITS],
            f"{status.transfers_total:,}",
            f"{status.transfers_per_second:,.0f}",
        )
    return table


def services_line(layout: Layout) -> str:
    """The processes that are no nodes."""
    others = [name for name in layout.services if name not in layout.node_ids]
    states = {name: processes.find_process(layout.pid_file(name)) is not None for name in others}
    return "   ".join(f"{name} {'runs' if runs else 'not running'}" for name, runs in states.items())


@dataclass(slots=True)
class Verdict:
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(layout: Layout, caller: Caller) -> Verdict:
    """Each node recomputes its books; then the nodes' hashes are compared at a position that all of them have."""
    verdict = Verdict()
    answers: dict[str, admin_pb2.VerifyResponse] = {}
    for node_id in layout.node_ids:
        try:
            answer = caller.one(
                layout.api_address(node_id),
                lambda c: admin_pb2_grpc.AdminServiceStub(c).Verify,
                admin_pb2.VerifyRequest(),
                timeout_s=VERIFY_TIMEOUT_S,
            )
        except CallError as error:
            verdict.problems.append(f"{node_id}: does not answer ({error})")
            continue
        answers[node_id] = answer
        verdict.lines.append(
            f"{node_id}: {answer.transfers:,} transfers in {answer.batches:,} batches, {answer.accounts:,} accounts, "
            f"recomputed up to position {answer.position}"
        )
        verdict.problems += [f"{node_id}: {problem}" for problem in answer.problems]
        if not answer.ok and not answer.problems:
            verdict.problems.append(f"{node_id}: its books are not right, and it gives no reason")
    _compare_hashes(layout, caller, answers, verdict)
    return verdict


def _compare_hashes(
    layout: Layout, caller: Caller, answers: dict[str, admin_pb2.VerifyResponse], verdict: Verdict
) -> None:
    if len(answers) < 2:
        return
    position = min(answer.position for answer in answers.values())
    hashes: dict[str, bytes] = {}
    for node_id, answer in answers.items():
        if answer.position == position:
            hashes[node_id] = answer.chain_hash
            continue
        try:
            found = caller.one(
                layout.api_address(node_id),
                lambda c: admin_pb2_grpc.AdminServiceStub(c).GetStateHash,
                admin_pb2.GetStateHashRequest(position=position),
            )
        except CallError as error:
            verdict.problems.append(f"{node_id}: gives no hash at position {position} ({error})")
            continue
        if not found.found:
            verdict.problems.append(f"{node_id}: has no hash at position {position}")
            continue
        hashes[node_id] = found.chain_hash
    verdict.problems += hash_problems(position, hashes)
    if len(hashes) == len(answers) and len(set(hashes.values())) == 1:
        short = next(iter(hashes.values())).hex()[:_HASH_DIGITS]
        verdict.lines.append(f"{len(hashes)} nodes have the same hash {short} at position {position}")
    state = {n: a.state_hash for n, a in answers.items() if a.position == position and a.state_hash}
    if len(set(state.values())) > 1:
        verdict.problems.append(f"the account rows differ at position {position}: {', '.join(sorted(state))}")


def hash_problems(position: int, hashes: dict[str, bytes]) -> list[str]:
    if len(set(hashes.values())) <= 1:
        return []
    shown = ", ".join(f"{node_id} {value.hex()[:_HASH_DIGITS]}" for node_id, value in sorted(hashes.items()))
    return [f"the hash chains differ at position {position}: {shown}"]
