"""Payments from request to outcome: find the parties, compare the PIN, plan the legs, score them all in one call,
propose them in one entry.

One event loop owns all of this, so the rules hold without locks: an id is worked on once (a second call with it waits
for the first), and while one payment of an account is being decided no other PIN try on that account is compared. The
verdict of a PIN leaves this node only after the log has it, so a leader that lost its followers tells nobody anything.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from kibubu.payments.v1 import payments_pb2

from node.ledger import features
from node.ledger.statuses import FraudDecision, PaymentKind, PaymentStatus, PinVerdict
from node.service.admission import Admission
from node.service.errors import QueueFullError, UnknownOutcomeError
from node.service.fraud_client import FraudClient, Scores
from node.service.fraud_policy import decision_without_score
from node.service.limits import (
    OUTCOME_WAIT_S,
    PAYMENTS_IN_SCORE_MAX,
    QUEUED_PAYMENTS_MAX,
    WAITING_PER_ACCOUNT_MAX,
)
from node.service.metrics import NodeMetrics
from node.service.payment_book import PaymentBook
from node.service.payment_drafts import Draft

ROUNDS_IN_FLIGHT_MAX = 3  # while one is at the sidecar and one in the log, the next gathers
_HOLDS = (FraudDecision.HOLD, FraudDecision.HOLD_UNSCORED)


@dataclass(slots=True)
class _Job:
    draft: Draft
    pin: str
    future: asyncio.Future[payments_pb2.Outcome]
    admitted_at: float


class PaymentDesk:
    def __init__(
        self,
        book: PaymentBook,
        admission: Admission,
        fraud: FraudClient | None,
        metrics: NodeMetrics,
        *,
        unscored_allow_max_minor: int,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._book = book
        self._admission = admission
        self._fraud = fraud
        self._metrics = metrics
        self._unscored_allow_max_minor = unscored_allow_max_minor
        self._time_ns = time_ns
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[int, _Job] = {}
        self._busy: dict[int, deque[_Job]] = {}  # payer account -> who waits behind the payment being decided
        self._ready: deque[_Job] = deque()
        self._rounds = 0
        self._round_is_due = False

    @property
    def queue_length(self) -> int:
        """Payments and balance checks that were taken in and have no outcome yet."""
        return len(self._by_id)

    async def decide(self, draft: Draft, pin: str) -> payments_pb2.Outcome:
        """The outcome of one payment or balance check. Raises what Admission.submit raises."""
        running = self._by_id.get(draft.payment_id)
        if running is not None:
            if running.draft.content_hash != draft.content_hash:
                return self._book.refusal(PaymentStatus.PAYMENT_ID_USED_FOR_ANOTHER_PAYMENT)
            outcome = payments_pb2.Outcome()
            outcome.CopyFrom(await self._wait(running))
            outcome.duplicate = True
            return outcome
        stored = self._book.stored_outcome(draft)
        if stored is not None:
            return stored
        if len(self._by_id) >= QUEUED_PAYMENTS_MAX:
            raise QueueFullError("the payment queue of this node is full; nothing was applied")
        job = _Job(draft, pin, self._loop.create_future(), time.perf_counter())
        self._enqueue(job)
        return await self._wait(job)

    @staticmethod
    async def _wait(job: _Job) -> payments_pb2.Outcome:
        try:
            return await asyncio.wait_for(asyncio.shield(job.future), OUTCOME_WAIT_S)
        except TimeoutError:
            raise UnknownOutcomeError("no outcome in time; ask again with the same id") from None

    def _enqueue(self, job: _Job) -> None:
        waiting = self._busy.get(job.draft.payer_account)
        if waiting is None:
            self._busy[job.draft.payer_account] = deque()
            self._ready.append(job)
        elif len(waiting) >= WAITING_PER_ACCOUNT_MAX:
            raise QueueFullError("too many payments of this payer wait; nothing was applied")
        else:
            waiting.append(job)
        self._by_id[job.draft.payment_id] = job
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
        try:
            outcomes = await self._decide_all(jobs)
        except Exception as error:
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
                    job.future.exception()  # seen, even when its caller has gone away
        else:
            for job, outcome in zip(jobs, outcomes, strict=True):
                if not job.future.done():
                    job.future.set_result(outcome)
                self._count(job.draft, outcome)
        finally:
            self._rounds -= 1
            for job in jobs:
                self._release(job)
            self._wake()

    def _release(self, job: _Job) -> None:
        del self._by_id[job.draft.payment_id]
        waiting = self._busy[job.draft.payer_account]
        if waiting:
            self._ready.append(waiting.popleft())
        else:
            del self._busy[job.draft.payer_account]

    async def _decide_all(self, jobs: list[_Job]) -> Sequence[payments_pb2.Outcome]:
        now_ns = self._time_ns()
        for job in jobs:
            self._book.check(job.draft, job.pin, now_ns)
        scorable = [job.draft for job in jobs if job.draft.moves_money]
        if scorable:
            await self._score(scorable, now_ns)
        records = bytearray()
        transfers = bytearray()
        logged = [job.draft for job in jobs if self._book.must_be_logged(job.draft)]
        legs = [self._book.write(draft, records, transfers) for draft in logged]
        shares: dict[int, payments_pb2.Outcome] = {}
        if logged:
            # Without a limit: an account stays busy until its verdict is applied or surely lost, so that no further
            # PIN is compared against a count that is still on its way.
            applied = await self._admission.submit(payments=records, transfers=bytes(transfers), wait_s=None)
            for draft, part, tries in zip(logged, legs, applied.pin_tries, strict=True):
                shares[draft.payment_id] = self._book.outcome(draft, applied, applied.replies[part], tries)
        return [shares.get(job.draft.payment_id) or self._book.unlogged_outcome(job.draft) for job in jobs]

    async def _score(self, drafts: list[Draft], now_ns: int) -> None:
        """Set each draft's decision; what the sidecar does not answer is decided by the stated policy."""
        if self._fraud is None:  # switched off by configuration, which every record says
            return
        scores = await self._scores(self._fraud, drafts, now_ns)
        for index, draft in enumerate(drafts):
            if scores is None:
                draft.decision = decision_without_score(draft.amount_minor, self._unscored_allow_max_minor)
            else:
                draft.decision = FraudDecision(int(scores.decisions[index]))
                draft.score_ppm = round(float(scores.probabilities[index]) * 1_000_000)
                draft.model_version = scores.model_version
                draft.reasons = tuple(int(reason) for reason in scores.reasons[index])
            self._metrics.fraud_decisions.labels(draft.decision.name.lower()).inc()
            draft.hold = draft.decision in _HOLDS
            if draft.decision is FraudDecision.REFUSE:
                draft.refuse(PaymentStatus.REFUSED_BY_FRAUD_CHECK)

    async def _scores(self, fraud: FraudClient, drafts: list[Draft], now_ns: int) -> Scores | None:
        rows = np.empty((len(drafts), features.FEATURE_COUNT), dtype=np.float32)
        features.extract(
            self._book.columns,
            np.array([draft.payer_account for draft in drafts], dtype=np.int64),
            np.array([draft.payee_account for draft in drafts], dtype=np.int64),
            np.array([draft.amount_minor for draft in drafts], dtype=np.int64),
            np.array([draft.kind for draft in drafts], dtype=np.int64),
            now_ns,
            rows,
        )
        started_at = time.perf_counter()
        scores = await fraud.score(rows)
        self._metrics.stage_score.observe(time.perf_counter() - started_at)
        return scores

    def _count(self, draft: Draft, outcome: payments_pb2.Outcome) -> None:
        self._metrics.payments.labels(PaymentKind(draft.kind).name.lower(), outcome.status_name).inc()
        if draft.pin_verdict is PinVerdict.WRONG:
            self._metrics.pin_wrong.inc()
