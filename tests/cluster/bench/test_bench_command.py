"""`kibubu bench`: options that cannot be meant are refused before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.bench import report
from cluster.bench.settings import Setting
from cluster.cli import main
from tests.cluster.bench.conftest import Make


def bench(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    environment = {"KIBUBU_HOME": str(tmp_path / "home")}
    result = CliRunner().invoke(main, ["bench", "--output", str(tmp_path), *arguments], env=environment)
    assert not (tmp_path / "home").exists(), "something was started"
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--quick", "--grid"], "--table, --quick and --grid: choose one of them"),
        (["--table", "--quick"], "--table, --quick and --grid: choose one of them"),
        (["--peer", "postgresql", "--overload"], "--peer and --overload: choose one of them"),
        (["--compare", "a", "b", "--restart"], "--compare and --restart: choose one of them"),
        (["--fraud-cost", "--overload"], "--overload and --fraud-cost: choose one of them"),
        (["--only", "nonsense"], "--only 'nonsense': no setting has this in its name"),
        (["--only", "nonsense", "--peer", "postgresql"], "--only 'nonsense': no setting has this in its name"),
        (["--only", "ussd", "--overload"], "--overload: none of the chosen settings can be overloaded"),
        (["--peer", "oracle"], "'oracle' is not 'postgresql'"),
        (["--repeats", "0"], "0 is not in the range"),
        (["--seconds", "0.1"], "0.1 is not in the range"),
        (["--accounts", "1"], "1 is not in the range"),
        (["--accounts", "20000001"], "20000001 is not in the range"),
        (["--stored", "-1"], "-1 is not in the range"),
        (["--stored", "1000000001"], "1000000001 is not in the range"),
        (["--peer-acks", "3"], "3 is not in the range"),
        (["--compare", "last", "previous"], "last: "),
        (["--compare", "absent.json", "last"], "absent.json: cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: list[str], told: str) -> None:
    code, output = bench(tmp_path, *arguments)
    assert code != 0
    assert told in output


def test_two_runs_are_compared_by_name(tmp_path: Path, measured: Make) -> None:
    report.write([measured(Setting("transfers", 1, 64), 200, 210, 220)], tmp_path)
    report.write([measured(Setting("transfers", 1, 64), 400, 410, 420)], tmp_path)
    code, output = bench(tmp_path, "--compare", "previous", "last")
    assert code == 0
    assert "2 of 4 figures changed beyond the noise" in output
