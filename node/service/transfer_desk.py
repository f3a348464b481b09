"""Raw transfers that customers' accounts send, scored before they are proposed: whatever waits, from all callers, is
one round with one call to the sidecar; while one round is scored the ones before are in the log.

Which transfers those are, and what a decision does to them, stands in node/ledger/scoring.py. Where nothing in a call
is to be scored it goes straight to admission. Runs on the service's event loop; only the features of a large round are
taken on a thread, which has copies of the rows.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from node.ledger.columns import Column
from node.ledger.history import Int64s
from node.ledger.overlay import AMOUNT, KIND, PAYEE, PAYER, Payments, lay_over
from node.ledger.records import BATCH_TRANSFERS_MAX, Records, TransferFlag
from node.ledger.scoring import payments_of, words_of, write_decisions
from node.ledger.statuses import FraudDecision
from node.ledger.usage import SIM_SHIFT
from node.payments.plan import HOLD_TIMEOUT_S
from node.service.admission import Admission
from node.service.errors import QueueFullError, UnknownOutcomeError
from node.service.fraud_client import FraudClient, Scores
from node.service.fraud_policy import decisions_without_score
from node.service.fraud_rules import NO_LISTS, RULE_REASON_FIRST, FraudRules, Listed
from node.service.in_flight import InFlight
from node.service.limits import (
    OUTCOME_WAIT_S,
    QUEUED_TRANSFERS_MAX,
    SCORED_ROUNDS_IN_FLIGHT_MAX,
    SCORING_ROUNDS_MAX,
)
from node.service.metrics import NodeMetrics
from node.storage.ledger_store import LedgerStore

_SECOND_NS = 1_000_000_000
THREAD_FROM_ROWS = 256  # a round of fewer takes its features at once: a thread's wake-up costs more
_LINKED = int(TransferFlag.LINKED) << 16


@dataclass(frozen=True, slots=True)
class ScoringPolicy:
    """What the operator's configuration says of raw transfers. `codes`: of those that customers send."""

    codes: tuple[int, ...] = ()  # none = nothing is scored
    unscored_allow_max_minor: int = 0
    rules: Callable[[], FraudRules] = lambda: NO_LISTS


@dataclass(slots=True)
class _Call:
    packed: bytes
    payments: Payments
    scored: int  # rows of them
    chain_is_open: bool
    future: asyncio.Future[Records]


@dataclass(slots=True)
class _Decided:
    """Of a round's scored transfers, in order."""

    decisions: npt.NDArray[np.uint8]  # FraudDecision
    scores_ppm: Int64s
    reasons: npt.NDArray[np.uint8]  # the strongest
    model_version: int
    thresholds_version: int


class TransferDesk:
    """`fraud` None or no codes = nothing is scored. `listed`: the accounts that the rules' lists name."""

    def __init__(
        self,
        store: LedgerStore,
        admission: Admission,
        fraud: FraudClient | None,
        metrics: NodeMetrics,
        policy: ScoringPolicy,
        *,
        in_flight: InFlight | None = None,
        listed: Callable[[Sequence[Listed]], Mapping[int, Sequence[Listed]]] = lambda _: {},
        thread: Executor | None = None,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._admission = admission
        self._fraud = fraud if policy.codes else None
        self._metrics = metrics
        self._policy = policy
        self._codes = np.array(policy.codes, dtype=np.int64)
        self._in_flight = in_flight or InFlight()
        self._listed = listed
        self._thread = thread
        self._time_ns = time_ns
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Call] = deque()
        self._queued_transfers = 0
        self._rounds = self._scoring = 0  # in all, and of those the ones that have no decision yet
        self._round_is_due = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def queue_length(self) -> int:
        return self._queued_transfers

    async def create(self, packed: bytes) -> Records:
        """REPLY records for packed transfers. Raises a ServiceError."""
        if self._fraud is None:
            return (await self._admission.submit(transfers=packed)).replies
        words = words_of(packed)
        payments, scored = payments_of(self._store.columns, words, self._codes)
        if not scored:
            return (await self._admission.submit(transfers=packed)).replies
        if self._queued_transfers + len(words) > QUEUED_TRANSFERS_MAX:
            self._metrics.queue_refusals.inc()
            raise QueueFullError("the queue of transfers to be scored is full; nothing was applied")
        call = _Call(packed, payments, scored, bool(words[-1, 11] & _LINKED), self._loop.create_future())
        self._queued_transfers += len(words)
        self._waiting.append(call)
        self._wake()
        limit = self._loop.call_later(OUTCOME_WAIT_S, _give_up, call.future)
        try:
            return await call.future
        finally:
            limit.cancel()

    def _may_start(self) -> bool:
        return bool(self._waiting) and (
            self._scoring < SCORING_ROUNDS_MAX and self._rounds < SCORED_ROUNDS_IN_FLIGHT_MAX
        )

    def _wake(self) -> None:
        # One turn of the loop later, so that calls which arrived together share a round.
        if not self._round_is_due and self._may_start():
            self._round_is_due = True
            self._loop.call_soon(self._start_round)

    def _start_round(self) -> None:
        self._round_is_due = False
        calls = self._gather() if self._may_start() else []
        if calls:
            self._rounds += 1
            self._scoring += 1
            task = self._loop.create_task(self._round(calls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._wake()

    def _gather(self) -> list[_Call]:
        """The longest prefix of the queue that fits one entry; what its caller has given up is left out."""
        calls: list[_Call] = []
        transfers = 0
        while self._waiting:
            call = self._waiting[0]
            transfers += len(call.payments)
            if calls and transfers > BATCH_TRANSFERS_MAX:
                break
            self._waiting.popleft()
            self._queued_transfers -= len(call.payments)
            if call.future.done():
                transfers -= len(call.payments)
                continue
            calls.append(call)
            if call.chain_is_open:
                break
        return calls

    async def _round(self, calls: list[_Call]) -> None:
        packed = bytearray(b"".join([call.packed for call in calls]))
        payments = np.concatenate([call.payments for call in calls])
        before = self._in_flight.rows()
        flight = self._in_flight.add(payments)
        is_scoring = True
        try:
            decided = await self._decide(before, payments)
            words = words_of(packed)
            write_decisions(words, payments, decided.decisions, decided.scores_ppm, decided.reasons, HOLD_TIMEOUT_S)
            is_scoring = False
            self._scoring -= 1
            self._wake()
            # Without a limit: until it is known what became of them, the next scores see these transfers.
            applied = await self._admission.submit(
                transfers=bytes(packed),
                scored=True,
                model_version=decided.model_version,
                thresholds_version=decided.thresholds_version,
                wait_s=None,
            )
        except Exception as error:
            for call in calls:
                if not call.future.done():
                    call.future.set_exception(error)
            return
        finally:
            self._in_flight.remove(flight)
            self._rounds -= 1
            self._scoring -= is_scoring
            self._wake()
        at = 0
        for call in calls:
            if not call.future.done():
                call.future.set_result(applied.replies[at : at + len(call.payments)])
            at += len(call.payments)

    async def _decide(self, before: Payments, payments: Payments) -> _Decided:
        """What the sidecar does not answer is decided by the stated policy; the rules may raise either."""
        now_ns = self._time_ns()
        wanted = payments[payments[:, KIND] != 0]
        scores = await self._scores(before, payments, now_ns)
        if scores is None:
            decisions = decisions_without_score(wanted[:, AMOUNT], self._policy.unscored_allow_max_minor)
            nothing = np.zeros(len(wanted), dtype=np.uint8)
            decided = _Decided(decisions, nothing.astype(np.int64), nothing, 0, 0)
        else:
            ppm = np.rint(scores.probabilities.astype(np.float64) * 1_000_000).astype(np.int64)
            decided = _Decided(
                scores.decisions.copy(), ppm, scores.reasons[:, 0].copy(), scores.model_version,
                scores.thresholds_version,
            )  # fmt: skip
        self._apply_rules(decided, wanted, now_ns)
        for number, count in enumerate(np.bincount(decided.decisions).tolist()):
            if count:
                self._metrics.fraud_decisions.labels(FraudDecision(number).name.lower()).inc(count)
        return decided

    async def _scores(self, before: Payments, payments: Payments, now_ns: int) -> Scores | None:
        if self._fraud is None:
            return None
        overlay = lay_over(self._store.columns, before, payments)
        if self._thread is not None and len(overlay.every) >= THREAD_FROM_ROWS:
            rows = await self._loop.run_in_executor(self._thread, overlay.extract, now_ns)
        else:
            rows = overlay.extract(now_ns)
        started_at = time.perf_counter()
        scores = await self._fraud.score(rows)
        self._metrics.stage_score.observe(time.perf_counter() - started_at)
        return scores

    def _apply_rules(self, decided: _Decided, wanted: Payments, now_ns: int) -> None:
        rules = self._policy.rules()
        listed = self._listed(rules.lists) if rules.lists else {}
        concerned = _may_be_raised(rules, self._store.columns, wanted, now_ns)
        if listed:
            concerned |= np.isin(wanted[:, PAYER : PAYEE + 1], list(listed)).any(axis=1)
        for at in np.flatnonzero(concerned).tolist():
            payer, payee, amount_minor = wanted[at, : AMOUNT + 1].tolist()
            row = self._store.columns[payer]
            decision, rule = rules.decide(
                FraudDecision(int(decided.decisions[at])), amount_minor=amount_minor,
                created_ns=int(row[Column.CREATED_NS]), pin_set_ns=int(row[Column.PIN_SET_NS]), now_ns=now_ns,
                sim_swapped_ns=(int(row[Column.TIER]) >> SIM_SHIFT) * _SECOND_NS,
                listed=(*listed.get(payer, ()), *listed.get(payee, ())),
            )  # fmt: skip
            if rule is not None:
                decided.decisions[at], decided.reasons[at] = decision, RULE_REASON_FIRST + rule


def _may_be_raised(rules: FraudRules, columns: Int64s, wanted: Payments, now_ns: int) -> npt.NDArray[np.bool_]:
    """Which of them the rules have to look at one by one, lists apart: few, since that takes longer than a score."""
    amounts, payers = wanted[:, AMOUNT], wanted[:, PAYER]
    may: npt.NDArray[np.bool_] = amounts >= (rules.cap_minor or np.iinfo(np.int64).max)
    if bool((amounts >= rules.least_minor).any()):
        pins_s, sims_s = columns[payers, Column.PIN_SET_NS] // _SECOND_NS, columns[payers, Column.TIER] >> SIM_SHIFT
        now_s = now_ns // _SECOND_NS
        may |= (amounts >= rules.pin_cool_down_from_minor) & (pins_s >= now_s - 3_600 * rules.pin_cool_down_h)
        may |= (amounts >= rules.sim_cool_down_from_minor) & (sims_s >= now_s - 3_600 * rules.sim_cool_down_h)
    return may


def _give_up(future: asyncio.Future[Records]) -> None:
    if not future.done():
        future.set_exception(UnknownOutcomeError("no outcome in time; ask again with the same id"))
