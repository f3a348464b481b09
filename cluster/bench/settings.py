"""What is measured: each row of the table with what it should reach, a quick choice of them, and the whole grid."""

from __future__ import annotations

from dataclasses import dataclass

BATCHES = (1, 10, 100, 1_000, 8_000)
CLIENTS = (1, 8, 64)
JOINED_BATCH_MAX = 1_000  # at most so many in one call of a caller are joined with those of others
SIZE_SHARE_MIN = 0.8  # of the empty ledger's speed, when it is large
ACCOUNTS = 10_000
CUSTOMERS = 20_000
REPLICAS = 3

TRANSFERS, PAYMENTS, UNARY, USSD = "transfers", "payments", "unary", "ussd"


@dataclass(frozen=True, slots=True)
class Target:
    """What a row should reach; None = nothing is asked."""

    per_second: float | None = None
    cpu_us_each: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    what: str  # transfers | payments | unary (transfers, a call each, from Node.js) | ussd (screens at the edge)
    batch: int
    clients: int  # calls, or phones, at work at the same time
    fraud_in_path: bool = False
    target: Target = Target()
    stored: int = 0  # transfers that the ledger held before, in round numbers

    @property
    def name(self) -> str:
        unusual = {(TRANSFERS, True): " fraud on", (PAYMENTS, False): " fraud off"}
        fraud = unusual.get((self.what, self.fraud_in_path), "")
        stored = f" stored {self.stored:,}" if self.stored else ""
        return f"{self.what} batch {self.batch:,} clients {self.clients:,}{fraud}{stored}"


TABLE = (
    Setting(TRANSFERS, 8_000, 4, target=Target(per_second=400_000, cpu_us_each=4.5)),
    Setting(TRANSFERS, 8_000, 4, fraud_in_path=True, target=Target(per_second=200_000, cpu_us_each=8)),
    Setting(TRANSFERS, 1_000, 4, target=Target(per_second=250_000)),
    Setting(TRANSFERS, 1_000, 4, fraud_in_path=True, target=Target(per_second=130_000)),
    Setting(TRANSFERS, 100, 8, target=Target(per_second=120_000)),
    Setting(TRANSFERS, 10, 32, target=Target(per_second=60_000)),
    Setting(TRANSFERS, 1, 64, target=Target(per_second=25_000)),
    Setting(TRANSFERS, 1, 1, target=Target(p50_ms=1.5)),
    Setting(PAYMENTS, 1, 256, fraud_in_path=True, target=Target(per_second=12_000, p99_ms=100)),
    Setting(UNARY, 1, 64, target=Target(per_second=4_000)),
    Setting(USSD, 1, 64, fraud_in_path=True, target=Target(per_second=4_000, p99_ms=100)),
)
QUICK = tuple(one for one in TABLE if (one.what, one.batch) != (UNARY, 1) and one.batch != 100)
GRID = (
    *(Setting(TRANSFERS, batch, clients) for batch in BATCHES for clients in CLIENTS),
    Setting(PAYMENTS, 1, 64, fraud_in_path=True),
)


def settings(*, quick: bool = False, grid: bool = False, only: str = "") -> list[Setting]:
    """Those of the chosen table whose name contains `only`."""
    return [one for one in (GRID if grid else QUICK if quick else TABLE) if only in one.name]
