"""Payments from request to outcome: find the parties, compare the PIN, plan the legs, score them all in one call,
propose them in one entry.

One event loop owns all of this, so the rules hold without locks: an id is worked on once (a second call with it waits
for the first), and while one payment of an account is being decided no other PIN try on that account is compared. The
verdict of a PIN leaves this node only after the log has it, so a leader that lost its followers tells nobody anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from kibubu.payments.v1 import payments_pb2
from kibubu.raft.v1 import raft_pb2

from node.ledger.columns import Column
from node.ledger.overlay import FIELDS, Payments, extract_in_order
from node.ledger.statuses import FraudDecision, PaymentStatus, PinVerdict
from node.ledger.usage import SIM_SHIFT
from node.service.admission import Admission
from node.service.errors import QueueFullError, ServiceError, UnknownOutcomeError
from node.service.fraud_client import FraudClient, Scores
from node.service.fraud_policy import decision_without_score
from node.service.fraud_rules import NO_LISTS, RULE_REASON_FIRST, FraudRules
from node.service.in_flight import InFlight
from node.service.limits import (
    OUTCOME_WAIT_S,
    PAYMENTS_IN_SCORE_MAX,
    QUEUED_PAYMENTS_MAX,
    WAITING_PER_ACCOUNT_MAX,
)
from node.service.metrics import NodeMetrics
from node.service.payment_book import PaymentBook
from node.service.payment_drafts import Draft
from node.service.payment_outcomes import Legs, outcome_of, refusal
from node.storage.damage import STORAGE_FAILURES

_log = logging.getLogger("kibubu.service")
ROUNDS_IN_FLIGHT_MAX = 3  # while one is at the sidecar and one in the log, the next gathers
_HOLDS = (FraudDecision.HOLD, FraudDecision.HOLD_UNSCORED)
_RIGHT = PinVerdict.RIGHT
_WATCHED = {
    FraudDecision.HOLD: FraudDecision.ALLOW,
    FraudDecision.REFUSE: FraudDecision.ALLOW,
    FraudDecision.HOLD_UNSCORED: FraudDecision.ALLOW_UNSCORED,
}
"""What becomes of a decision about a kind that is watched and not stopped."""
_DECISIONS = {int(decision): decision for decision in FraudDecision}


Result = payments_pb2.Outcome | ServiceError


@dataclass(slots=True)
class _Call:
    """Payments that came in one call: one future and one time limit for all of them, not for each."""

    results: list[Result | None]
    missing: int
    future: asyncio.Future[None]

    def put(self, index: int, result: Result) -> None:
        self.results[index] = result
        self.missing -= 1
        if not self.missing and not self.future.done():
            self.future.set_result(None)


@dataclass(slots=True)
class _Job:
    draft: Draft
    pin: str
    waiting: list[tuple[_Call, int]]  # who hears the outcome; all but the first asked for what was under way already

    def finish(self, result: Result) -> None:
        for number, (call, index) in enumerate(self.waiting):
            if number and isinstance(result, payments_pb2.Outcome):
                result, first = payments_pb2.Outcome(), result
                result.CopyFrom(first)
                result.duplicate = True
            call.put(index, result)


class PaymentDesk:
    def __init__(
        self,
        book: PaymentBook,
        admission: Admission,
        fraud: FraudClient | None,
        metrics: NodeMetrics,
        *,
        unscored_allow_max_minor: int,
        rules: Callable[[], FraudRules] = lambda: NO_LISTS,
        in_flight: InFlight | None = None,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._book = book
        self._admission = admission
        self._fraud = fraud
        self._metrics = metrics
        self._unscored_allow_max_minor = unscored_allow_max_minor
        self._rules = rules
        self._time_ns = time_ns
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[int, _Job] = {}
        self._busy: dict[int, deque[_Job]] = {}  # signer's account -> who waits behind the payment being decided
        self._alone: set[int] = set()  # what drafts that are being decided must have for themselves
        self._ready: deque[_Job] = deque()
        self._in_flight = in_flight or InFlight()  # shared with whoever else has transfers scored
        self._rounds = 0
        self._round_is_due = False
        self.on_storage_failure: Callable[[BaseException], None] = lambda error: None  # ends the process

    @property
    def queue_length(self) -> int:
        """Payments and balance checks that were taken in and have no outcome yet."""
        return len(self._by_id)

    async def decide(self, draft: Draft, pin: str) -> payments_pb2.Outcome:
        """The outcome of one payment or balance check. Raises a ServiceError where there is none."""
        (result,) = await self.decide_all([(draft, pin)])
        if isinstance(result, ServiceError):
            raise result
        return result

    async def decide_all(self, asks: Sequence[tuple[Draft, str]]) -> list[Result]:
        """Each payment on its own, in order: its outcome, or the error that says why it has none."""
        call = _Call([None] * len(asks), len(asks), self._loop.create_future())
        for index, (draft, pin) in enumerate(asks):
            try:
                self._take_in(draft, pin, call, index)
            except ServiceError as error:
                call.put(index, error)
        if call.missing:
            limit = self._loop.call_later(OUTCOME_WAIT_S, _give_up, call)
            try:
                await call.future
            finally:
                limit.cancel()
        unknown = UnknownOutcomeError("no outcome in time; ask again with the same id")
        return [result if result is not None else unknown for result in call.results]

    def _take_in(self, draft: Draft, pin: str, call: _Call, index: int) -> None:
        running = self._by_id.get(draft.payment_id)
        if running is not None:
            if running.draft.content_hash == draft.content_hash:
                running.waiting.append((call, index))
            else:
                call.put(index, refusal(PaymentStatus.PAYMENT_ID_USED_FOR_ANOTHER_PAYMENT))
            return
        stored = self._book.stored_outcome(draft)
        if stored is not None:
            call.put(index, stored)
            return
        if len(self._by_id) >= QUEUED_PAYMENTS_MAX:
            raise QueueFullError("the payment queue of this node is full; nothing was applied")
        self._enqueue(_Job(draft, pin, [(call, index)]))

    def _enqueue(self, job: _Job) -> None:
        alone_on = job.draft.special.alone_on if job.draft.special is not None else 0
        if alone_on in self._alone:
            raise QueueFullError("another payment of the same thing is being decided; nothing was applied")
        waiting = self._busy.get(job.draft.signer_account)
        if waiting is None:
            self._busy[job.draft.signer_account] = deque()
            self._ready.append(job)
        elif len(waiting) >= WAITING_PER_ACCOUNT_MAX:
            raise QueueFullError("too many payments under this PIN wait; nothing was applied")
        else:
            waiting.append(job)
        self._by_id[job.draft.payment_id] = job
        if alone_on:
            self._alone.add(alone_on)
        self._wake()

    def _wake(self) -> None:
        if not self._round_is_due and self._ready and self._rounds < ROUNDS_IN_FLIGHT_MAX:
            self._round_is_due = True
            self._loop.call_soon(self._start_round)

    def _start_round(self) -> None:
        self._round_is_due = False
        if not self._ready or self._rounds >= ROUNDS_IN_FLIGHT_MAX:
            return
        jobs = [self._ready.popleft() for _ in range(min(len(self._ready), PAYMENTS_IN_SCORE_MAX))]
        self._rounds += 1
        task = self._loop.create_task(self._round(jobs))
        task.add_done_callback(lambda _: None)
        self._wake()

    async def _round(self, jobs: list[_Job]) -> None:
        unknown = UnknownOutcomeError("internal error; ask again with the same id")
        results: Sequence[Result] = [unknown] * len(jobs)
        try:
            results = outcomes = await self._decide_round(jobs)
            self._count(jobs, outcomes)
        except ServiceError as error:
            results = [error] * len(jobs)
        except Exception as error:
            if isinstance(error, STORAGE_FAILURES):
                self.on_storage_failure(error)
            _log.error("a round of payments failed: %s", type(error).__name__)
        finally:
            self._rounds -= 1
            for job, result in zip(jobs, results, strict=True):
                self._release(job)
                job.finish(result)
            self._wake()

    def _release(self, job: _Job) -> None:
        del self._by_id[job.draft.payment_id]
        if job.draft.special is not None:
            self._alone.discard(job.draft.special.alone_on)
        waiting = self._busy[job.draft.signer_account]
        if waiting:
            self._ready.append(waiting.popleft())
        else:
            del self._busy[job.draft.signer_account]

    async def _decide_round(self, jobs: list[_Job]) -> Sequence[payments_pb2.Outcome]:
        now_ns = self._time_ns()
        self._book.check_all([(job.draft, job.pin) for job in jobs], now_ns)
        scorable = [job.draft for job in jobs if job.draft.terms.scored_as and job.draft.moves_money]
        before, payments = self._in_flight.rows(), _as_payments(scorable)
        flight = self._in_flight.add(payments)
        try:
            if scorable:
                await self._score(scorable, before, payments, now_ns)
            return await self._propose(jobs)
        finally:
            self._in_flight.remove(flight)

    async def _propose(self, jobs: list[_Job]) -> Sequence[payments_pb2.Outcome]:
        records, transfers = bytearray(), bytearray()
        logged = [job.draft for job in jobs if self._book.must_be_logged(job.draft)]
        parts = [self._book.write(draft, records, transfers) for draft in logged]
        outcomes: dict[int, payments_pb2.Outcome] = {}
        if logged:
            # Without a limit: an account stays busy until its verdict is applied or surely lost, so that no further
            # PIN is compared against a count that is still on its way.
            applied = await self._admission.submit(
                commands=_commands_of(logged),
                payments=records,
                transfers=bytes(transfers),
                wait_s=None,
            )
            legs, at = Legs.of(applied.replies), (applied.position, applied.timestamp_ns)
            rows = zip(logged, parts, applied.pin_tries, strict=True)
            for offset, (draft, part, tries) in enumerate(rows, applied.first_payment):
                outcomes[draft.payment_id] = outcome_of(draft, *at, offset, legs, part, tries)
        return [outcomes.get(job.draft.payment_id) or refusal(job.draft.status) for job in jobs]

    async def _score(self, drafts: list[Draft], before: Payments, payments: Payments, now_ns: int) -> None:
        """Set each draft's decision; what the sidecar does not answer is decided by the stated policy."""
        if self._fraud is None:  # switched off by configuration, which every record says
            return
        scores = await self._scores(self._fraud, before, payments, now_ns)
        if scores is None:
            for draft in drafts:
                draft.decision = decision_without_score(draft.amount_minor, self._unscored_allow_max_minor)
        else:
            rows = zip(
                drafts,
                scores.decisions.tolist(),
                np.rint(scores.probabilities.astype(np.float64) * 1_000_000).astype(np.int64).tolist(),
                scores.reasons.tolist(),
                strict=True,
            )
            for draft, decision, score_ppm, reasons in rows:
                draft.decision, draft.score_ppm = _DECISIONS[decision], score_ppm
                draft.model_version, draft.reasons = scores.model_version, tuple(reasons)
                draft.thresholds_version = scores.thresholds_version
        for draft in drafts:
            if draft.terms.is_only_watched:
                draft.decision = _WATCHED.get(draft.decision, draft.decision)
        self._apply_rules(drafts, now_ns)
        for draft in drafts:
            draft.hold = draft.decision in _HOLDS
            if draft.decision is FraudDecision.REFUSE or (draft.hold and not draft.terms.may_be_held):
                draft.refuse(PaymentStatus.REFUSED_BY_FRAUD_CHECK)
        for made, count in Counter(draft.decision for draft in drafts).items():
            self._metrics.fraud_decisions.labels(made.name.lower()).inc(count)

    def _apply_rules(self, drafts: list[Draft], now_ns: int) -> None:
        rules = self._rules()
        listed = self._book.listed(rules.lists)
        for draft in drafts:
            if draft.amount_minor < rules.least_minor and not listed:
                continue
            row = self._book.columns[draft.payer_account]
            draft.decision, rule = rules.decide(
                draft.decision, amount_minor=draft.amount_minor, created_ns=int(row[Column.CREATED_NS]),
                pin_set_ns=int(row[Column.PIN_SET_NS]), now_ns=now_ns,
                sim_swapped_ns=(int(row[Column.TIER]) >> SIM_SHIFT) * 1_000_000_000,
                listed=(*listed.get(draft.payer_account, ()), *listed.get(draft.payee_account, ())),
            )  # fmt: skip
            if rule is not None:
                draft.reasons = (RULE_REASON_FIRST + rule, *draft.reasons[:2])

    async def _scores(self, fraud: FraudClient, before: Payments, payments: Payments, now_ns: int) -> Scores | None:
        rows = extract_in_order(self._book.columns, before, payments, now_ns)
        started_at = time.perf_counter()
        scores = await fraud.score(rows)
        self._metrics.stage_score.observe(time.perf_counter() - started_at)
        return scores

    def _count(self, jobs: list[_Job], outcomes: Sequence[payments_pb2.Outcome]) -> None:
        """Once for a round: a labelled counter takes longer than a rule."""
        told = Counter((job.draft.terms.kind, outcome.status_name) for job, outcome in zip(jobs, outcomes, strict=True))
        for (kind, status), count in told.items():
            self._metrics.payments.labels(kind.name.lower(), status).inc(count)
        wrong = sum(job.draft.pin_verdict is PinVerdict.WRONG for job in jobs)
        if wrong:
            self._metrics.pin_wrong.inc(wrong)


def _give_up(call: _Call) -> None:
    if not call.future.done():
        call.future.set_result(None)


def _commands_of(drafts: list[Draft]) -> list[raft_pb2.Command]:
    specials = [draft.special for draft in drafts if draft.special is not None and draft.pin_verdict is _RIGHT]
    return [command for special in specials for command in special.commands]


def _as_payments(drafts: list[Draft]) -> Payments:
    """int64 (n, FIELDS) in the order of node/ledger/overlay."""
    rows = [
        (draft.payer_account, draft.payee_account, draft.amount_minor, draft.terms.scored_as, draft.terms.code)
        for draft in drafts
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, FIELDS)
