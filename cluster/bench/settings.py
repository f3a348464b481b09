"""What is measured, and what a measurement is."""

from __future__ import annotations

from dataclasses import dataclass

BATCHES = (1, 10, 100, 1_000, 8_000)
CLIENTS = (1, 8, 64)
QUICK = ((1, 64), (10, 64), (1_000, 8), (8_000, 8))
PAYMENTS_IN_FLIGHT = 64
ACCOUNTS = 10_000
CUSTOMERS = 2_000
REPLICAS = 3


@dataclass(frozen=True, slots=True)
class Setting:
    what: str  # transfers | payments
    batch: int
    clients: int
    fraud_in_path: bool

    @property
    def name(self) -> str:
        return f"{self.what} batch {self.batch:,} clients {self.clients}"


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat."""

    per_second: float
    cpu_us_each: float  # of all processes of the cluster and of the generator
    latencies_ms: list[float]  # of calls, as their caller sees them
    outcomes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """The median repeat of a setting."""

    setting: Setting
    repeats: int
    per_second: float
    slowest_per_second: float
    fastest_per_second: float
    cpu_us_each: float
    p50_ms: float
    p99_ms: float
    reference_records_per_second: float  # blocks of one batch, written and synced by one process on the same disk
    outcomes: dict[str, int]

    @property
    def ratio(self) -> float:
        return self.per_second / self.reference_records_per_second if self.reference_records_per_second else 0.0


def settings(quick: bool) -> list[Setting]:
    pairs = QUICK if quick else tuple((batch, clients) for batch in BATCHES for clients in CLIENTS)
    transfers = [Setting("transfers", batch, clients, fraud_in_path=False) for batch, clients in pairs]
    return [*transfers, Setting("payments", 1, PAYMENTS_IN_FLIGHT, fraud_in_path=True)]
