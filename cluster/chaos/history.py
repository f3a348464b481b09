"""What was sent and what was answered: the only thing that traffic and validation share."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field


@dataclass(slots=True)
class Sent:
    """One transfer. `status` stays None for as long as nobody knows whether it was applied."""

    id: int
    debit_account: int
    credit_account: int
    amount_minor: int
    status: int | None = None
    position: int = 0


@dataclass(slots=True)
class History:
    sent: list[Sent] = field(default_factory=list)
    acknowledged_at_s: list[float] = field(default_factory=list)  # monotonic time of each answered batch
    contradictions: list[str] = field(default_factory=list)  # answers that differ from an earlier answer
    started_s: float = 0.0
    ended_s: float = 0.0

    def longest_silence_s(self) -> float:
        """The longest time without an acknowledgement while there was traffic."""
        times = [self.started_s, *sorted(self.acknowledged_at_s), self.ended_s]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


@dataclass(frozen=True, slots=True)
class Found:
    """One transfer as the ledger has it. `status` None = the ledger never saw this id."""

    status: int | None
    debit_account: int = 0
    credit_account: int = 0
    amount_minor: int = 0
    position: int = 0


@dataclass(slots=True)
class Observed:
    """The ledger after the ordeal, read through its public calls."""

    transfers: dict[int, Found] = field(default_factory=dict)  # every id that was sent
    statements: dict[int, list[int]] = field(default_factory=dict)  # account: ids, newest first
    balances_minor: dict[int, int] = field(default_factory=dict)
    opening_minor: dict[int, int] = field(default_factory=dict)
    may_go_below: frozenset[int] = frozenset()  # accounts that money is issued from
    all_balances_minor: int = 0  # over every account of the ledger; zero when money is conserved
    node_problems: list[str] = field(default_factory=list)  # from verify: books and hashes of the nodes
