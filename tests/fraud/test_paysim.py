"""Training on PaySim-format files: what is forgotten, what is refused, what is learned."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cluster.cli import main
from fraud.evaluate import average_precision
from fraud.fitting import QUICK
from fraud.leaks import leaky_features, single_feature_auprc
from fraud.model import sha256_of
from fraud.paysim import features as extra
from fraud.paysim import reading
from fraud.paysim.errors import DataError, LeakError
from fraud.paysim.history import FEATURE_NAMES, History, Labels
from fraud.paysim.reading import Block, blocks, summarise
from fraud.paysim.train import last_line, train
from node.ledger import features as node
from tests.fraud.paysim_like import write

HEADER = "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud"
LAST_LINE = re.compile(
    r"^AUPRC (\d\.\d{4}) at prevalence \d\.\d+ \([\d,]+ of [\d,]+\), recall \d\.\d+ at 0\.1 % and \d\.\d+ at 1 % "
    r"false positives$"
)


@pytest.fixture(scope="module")
def takeover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("paysim") / "takeover.csv"
    assert write(path, "takeover", 2_500, 20, 5) > 60
    return path


def silent(_: str) -> None: ...


def read(path: Path, sets: int = 1 << 14) -> tuple[np.ndarray, Block]:
    summary = summarise(path)
    history = History(Labels.of(summary.first_step, summary.last_step, 1 << 20), sets, sets)
    parts = [(history.read(block), block) for block in blocks(path)]
    return np.concatenate([rows for rows, _ in parts]), reading._joined([block for _, block in parts])


def changed(path: Path, target: Path, change: object) -> Path:
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    target.write_text("\n".join([header, *change(lines)]) + "\n", encoding="utf-8")  # type: ignore[operator]
    return target


# --- what is learned --------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_fraud_that_follows_behaviour_is_learned(takeover: Path, tmp_path: Path) -> None:
    card = train(takeover, tmp_path / "a", 3, QUICK, silent)
    report = card["report"]
    assert report["auprc"] > 20 * report["prevalence"]
    assert report["calibration_error"] < report["prevalence"]
    assert report["first_step"] == 336  # 70 % of 480 hours
    assert card["model_sha256"] == sha256_of(tmp_path / "a" / "model.cbm")
    assert json.loads((tmp_path / "a" / "metrics.json").read_text()) == report
    assert "Do not use" not in (tmp_path / "a" / "CARD.md").read_text()
    again = train(takeover, tmp_path / "b", 3, QUICK, silent)
    assert again == card


@pytest.mark.timeout(300)
def test_the_command_ends_with_the_area(takeover: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fraud.commands.Budget", lambda: QUICK)
    arguments = ["fraud", "train", "--data", str(takeover), "--format", "paysim", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert LAST_LINE.match(result.output.splitlines()[-1])
    assert {"model.cbm", "card.json", "metrics.json", "CARD.md"} == {file.name for file in tmp_path.iterdir()}


# --- what is forgotten ------------------------------------------------------------------------------------------------


def test_the_order_within_a_step_is_forgotten(takeover: Path, tmp_path: Path) -> None:
    def shuffle(lines: list[str]) -> Iterator[str]:
        generator = random.Random(1)
        by_step: dict[int, list[str]] = {}
        for line in lines:
            by_step.setdefault(int(line.split(",")[0]), []).append(line)
        for step in by_step.values():
            yield from generator.sample(step, len(step))

    rows, block = read(takeover)
    other_rows, other = read(changed(takeover, tmp_path / "shuffled.csv", shuffle))
    assert np.array_equal(rows, other_rows)
    assert np.array_equal(block.fraud, other.fraud)


def test_new_balances_and_flags_are_not_looked_at(takeover: Path, tmp_path: Path) -> None:
    def blur(lines: list[str]) -> Iterator[str]:
        for line in lines:
            cells = line.split(",")
            cells[5], cells[8], cells[10] = "1.25", cells[9], cells[9]
            yield ",".join(cells)

    assert np.array_equal(read(takeover)[0], read(changed(takeover, tmp_path / "blurred.csv", blur))[0])


def test_no_label_of_the_evaluated_time_is_seen(takeover: Path, tmp_path: Path) -> None:
    def relabel(lines: list[str], first_step: int) -> Iterator[str]:
        for line in lines:
            cells = line.split(",")
            if int(cells[0]) >= first_step:
                cells[9] = "1"
            yield ",".join(cells)

    rows, block = read(takeover)
    later = read(changed(takeover, tmp_path / "later.csv", lambda lines: relabel(lines, 336)))[0]
    assert np.array_equal(rows, later)
    # A label that had matured before a date is seen behind it: the test can fail.
    assert rows[block.step >= 336, FEATURE_NAMES.index("payee_confirmed_in")].max() > 0
    early = read(changed(takeover, tmp_path / "early.csv", lambda lines: relabel(lines, 20)))[0]
    assert not np.array_equal(rows, early)


def test_both_headers_and_the_second_generations_names(takeover: Path, tmp_path: Path) -> None:
    rows, _ = read(takeover)
    text = takeover.read_text(encoding="utf-8")
    short = changed(takeover, tmp_path / "short.csv", lambda lines: [line.rsplit(",", 1)[0] for line in lines])
    short.write_text(short.read_text().replace(",isFlaggedFraud", "", 1), encoding="utf-8")
    assert short.read_text().startswith(HEADER + "\n")
    second = tmp_path / "second.csv"
    second.write_text(text.replace("type,", "action,", 1).replace("balance", "Balance"), encoding="utf-8-sig")
    windows = tmp_path / "windows.csv"
    windows.write_bytes(text.replace("\n", "\r\n").encode())
    blank = tmp_path / "blank.csv"
    blank.write_text(text + "\n\n", encoding="utf-8")
    for path in (short, second, windows, blank):
        assert np.array_equal(read(path)[0], rows), path


def test_small_chunks_give_the_same_steps(takeover: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = read(takeover)
    monkeypatch.setattr(reading, "CHUNK_ROWS", 700)
    parts = list(blocks(takeover))
    assert len(parts) > 10
    borders = [(part.step[-1], after.step[0]) for part, after in itertools.pairwise(parts)]
    assert all(last < first for last, first in borders)
    assert np.array_equal(read(takeover)[0], rows)


def test_failed_rows_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "failed.csv"
    good = "1,TRANSFER,50,C1,100,50,C2,0,50,0"
    path.write_text(f"{HEADER}\n{good}\n1,TRANSFER,500,C1,100,100,C2,50,50,0\n", encoding="utf-8")
    assert (summarise(path).rows, summarise(path).failed_rows) == (1, 1)
    path.write_text(f"{HEADER},isUnauthorizedOverdraft\n{good},0\n{good},1\n", encoding="utf-8")
    assert (summarise(path).rows, summarise(path).failed_rows) == (1, 1)


# --- what is computed -------------------------------------------------------------------------------------------------


def test_the_first_features_are_the_nodes_own() -> None:
    assert FEATURE_NAMES[: node.FEATURE_COUNT] == node.FEATURE_NAMES
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == node.FEATURE_COUNT + extra.COUNT


def ledger(tmp_path: Path, *lines: str) -> list[dict[str, float]]:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return [dict(zip(FEATURE_NAMES, row.tolist(), strict=True)) for row in read(path)[0]]


def test_money_that_passes_through_is_seen(tmp_path: Path) -> None:
    first, through, back = ledger(
        tmp_path,
        "30,TRANSFER,900,C1,1000,0,C2,0,0,0",
        "32,CASH_OUT,900,C2,900,0,C3,0,0,0",
        "33,TRANSFER,10,C2,500,0,C1,0,0,0",
    )
    assert (first["payee_is_new"], first["hour_of_day"], first["pair_payments"]) == (1, 6, 0)
    assert first["share_of_available"] == pytest.approx(0.9, rel=1e-3)
    assert (through["takes_all"], through["received"], through["s_since_in"]) == (1, 1, 7_200)
    assert through["amount_to_last_in"] == pytest.approx(1, rel=1e-3)
    assert through["last_in_share"] == pytest.approx(0.9, rel=1e-3)
    assert through["last_in_oddness"] > 0.5
    assert back["back_payments"] == 1
    assert back["quick_out_share"] == pytest.approx(0.5)


def test_within_a_step_money_arrives_before_it_leaves(tmp_path: Path) -> None:
    out, into = "32,CASH_OUT,900,C2,900,0,C3,0,0,0", "32,TRANSFER,900,C1,1000,0,C2,0,0,0"
    for number, lines in enumerate(((out, into), (into, out))):
        folder = tmp_path / str(number)
        folder.mkdir()
        first, second = ledger(folder, *lines)
        assert (first["received"], second["received"], second["s_since_in"]) == (0, 1, 0)


def test_a_memory_that_is_full_forgets_and_goes_on(takeover: Path) -> None:
    rows, _ = read(takeover, sets=4)
    assert np.isfinite(rows).all()
    assert rows[:, FEATURE_NAMES.index("payments")].max() < read(takeover)[0][:, FEATURE_NAMES.index("payments")].max()


def test_every_number_is_a_number_whatever_the_balances(tmp_path: Path) -> None:
    for row in ledger(
        tmp_path,
        "1,TRANSFER,0,C1,-5,0,C2,-7,0,0",
        "1,CASH_IN,1e13,C1,1e13,0,C2,0,0,0",
        "9,PAYMENT,0.01,C1,0,0,M2,0,0,0",
        "9,DEBIT,5,C1,3,0,C1,0,0,0",
        "9000,TRANSFER,5,C1,3,0,C2,0,0,0",
    ):
        assert all(np.isfinite(value) for value in row.values()), row


# --- what is refused --------------------------------------------------------------------------------------------------

GOOD = "1,TRANSFER,50,C1,100,50,C2,0,50,0"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the file is empty"),
        (HEADER + "\n", "no payments in it"),
        ("a,b\n1,2\n", "missing columns: step, type, amount"),
        (HEADER.replace(",amount", "") + "\n1\n", "line 1: missing columns: amount; there are: step"),
        (
            f"{HEADER}\n{GOOD}\n1,TRANSFER,much,C1,1,1,C2,0,0,0\n",
            "line 3: amount: must be a number from 0 .* is 'much'",
        ),
        (f"{HEADER}\n1,TRANSFER,-3,C1,1,1,C2,0,0,0\n", "line 2: amount: must be a number"),
        (f"{HEADER}\n1,TRANSFER,NaN,C1,1,1,C2,0,0,0\n", "line 2: amount: must be a number"),
        (f"{HEADER}\n1,TRANSFER,inf,C1,1,1,C2,0,0,0\n", "line 2: amount: must be a number"),
        (f"{HEADER}\n1,TRANSFER,,C1,1,1,C2,0,0,0\n", "line 2: amount: must be a number .* is None"),
        (f"{HEADER}\n1.5,TRANSFER,1,C1,1,1,C2,0,0,0\n", "line 2: step: must be a whole number"),
        (f"{HEADER}\n1,TRANSFER,1,C1,x,1,C2,0,0,0\n", "line 2: oldbalanceOrg: must be a number"),
        (f"{HEADER}\n1,TRANSFER,1,C1,1,1,C2,?,0,0\n", "line 2: oldbalanceDest: must be a number"),
        (f"{HEADER}\n1,TRANSFER,1,C1,1,1,C2,0,0,2\n", "line 2: isFraud: must be a whole number from 0 to 1"),
        (f"{HEADER}\n1,GIFT,1,C1,1,1,C2,0,0,0\n", "line 2: type: must be one of CASH_IN, .* is 'GIFT'"),
        (f"{HEADER}\n{GOOD}\n1,TRANSFER,1,,1,1,C2,0,0,0\n", "line 3: nameOrig: must not be empty"),
        (f"{HEADER}\n5{GOOD[1:]}\n{GOOD}\n", "line 3: step: 1 comes after 5; the rows must be in order of time"),
        (f"{HEADER}\n{GOOD},1,2,3\n", "line 2 or later"),
        (f"{HEADER}\n{GOOD}\n", "different steps of time"),
        (f"{HEADER}\n{GOOD}\n99{GOOD[1:]}\n", "isFraud: no row is fraud"),
        (f"{HEADER}\n{GOOD}\n98{GOOD[1:-1]}1\n99{GOOD[1:]}\n", "no fraud before step"),
    ],
)
def test_a_bad_file_is_refused_and_nothing_written(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=complaint):
        train(path, tmp_path / "out", 1, QUICK, silent)
    assert not (tmp_path / "out").exists()


def test_the_order_of_time_holds_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_ROWS", 2)
    path = tmp_path / "bad.csv"
    path.write_text("\n".join([HEADER, *[f"5{GOOD[1:]}"] * 7, GOOD]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 9: step: 1 comes after 5"):
        summarise(path)


def test_no_file_and_no_data_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        summarise(tmp_path / "none.csv")
    result = CliRunner().invoke(main, ["fraud", "train", "--format", "paysim"])
    assert result.exit_code == 2
    assert "--format paysim needs --data FILE" in result.output


@pytest.mark.timeout(300)
def test_data_that_gives_itself_away_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "classic.csv"
    write(path, "classic", 1_500, 15, 2)
    with pytest.raises(LeakError, match=r"one feature alone passes AUPRC 0\.9: takes_all \(1\.0000\)"):
        train(path, tmp_path / "out", 1, QUICK, silent)
    assert not (tmp_path / "out").exists()
    card = train(path, tmp_path / "out", 1, QUICK, silent, allow_leaky=True)
    assert card["data"]["leaky_features"]["takes_all"] > 0.9
    text = (tmp_path / "out" / "CARD.md").read_text(encoding="utf-8")
    assert "The data leaks" in text
    assert "`takes_all`" in text
    assert LAST_LINE.match(last_line(card["report"]))


def test_one_feature_is_judged_by_the_best_that_it_could_do() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(40_000) < 0.01).astype(np.int8)
    noise = rng.normal(size=40_000).astype(np.float32)
    middle = np.where(labels == 1, 0.25, noise).astype(np.float32)  # neither the highest nor the lowest values
    assert single_feature_auprc(middle, labels) > 0.9
    assert average_precision(labels, middle) < 0.1
    assert single_feature_auprc(noise, labels) < 0.05
    assert leaky_features(np.stack([noise, middle], axis=1), labels, ("noise", "middle"))[0][0] == "middle"
