"""What the `kibubu fraud` commands do, apart from their options: each says what it does through `say`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fraud import train
from fraud.fitting import Budget
from fraud.paysim import train as paysim

Say = Callable[[str], None]


def train_paysim(data: Path, output: Path, seed: int, say: Say, *, allow_leaky: bool) -> None:
    """Raises DataError (a ValueError). The last line said is the report's."""
    card = paysim.train(data, output, seed, Budget(), say, allow_leaky=allow_leaky)
    say(f"written {output}/model.cbm {card['model_sha256'][:8]}, its card and metrics.json")
    say(paysim.last_line(card["report"]))


def train_simulated(customers: int, days: int, seed: int, output: Path, say: Say) -> None:
    card = train.train(customers, days, seed, output)
    report = card["report"]
    say(f"written {output}/model.cbm {card['model_sha256'][:8]} and its card")
    say(f"AUPRC {report['auprc']:.3f} at {report['fraud_share']:.2%} fraud, on days that it never saw")
    say(f"recall at 0.1 % alerts {report['at_alert_rates'][0]['recall']:.3f}")
