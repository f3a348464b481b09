"""What a newcomer reads on the screen, without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.cli import _print_addresses, main
from cluster.layout import Layout

COMMANDS = (
    "up", "down", "status", "kill", "start", "pause", "resume", "transfer", "balance", "statement", "verify", "bench",
    "chaos", "fraud", "trial-balance", "receipt",
)  # fmt: skip


def kibubu(home: Path, *arguments: str) -> tuple[int, str]:
    environment = {"KIBUBU_HOME": str(home), "KIBUBU_PORT_BASE": "23000"}
    result = CliRunner().invoke(main, arguments, env=environment)
    return result.exit_code, result.output


def test_every_command_is_there_and_explains_itself(tmp_path: Path) -> None:
    _, shown = kibubu(tmp_path, "--help")
    for name in COMMANDS:
        assert f"\n  {name}" in shown
        code, explained = kibubu(tmp_path, name, "--help")
        assert code == 0
        assert len(explained.splitlines()[2].strip()) > 10


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("verify",), ("balance", "254712000001"), ("statement", "254712000001"), ("start", "n1"),
     ("transfer", "254712000001", "254712000002", "5")],
)  # fmt: skip
def test_without_a_cluster_the_way_to_one_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, shown = kibubu(tmp_path, *arguments)
    assert code == 1
    assert f"there is no cluster in {tmp_path}; `kibubu up` makes one" in shown
    assert list(tmp_path.iterdir()) == []


def test_down_without_a_cluster_does_nothing(tmp_path: Path) -> None:
    assert kibubu(tmp_path, "down") == (0, "nothing was running\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", ["kill", "pause", "resume"])
def test_what_does_not_run_is_said(tmp_path: Path, action: str) -> None:
    assert kibubu(tmp_path, action, "n2") == (1, "Error: n2 is not running\n")


def test_a_wrong_environment_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["status"], env={"KIBUBU_HOME": str(tmp_path), "KIBUBU_PORT_BASE": "80"})
    assert result.exit_code == 1
    assert result.output == "Error: KIBUBU_PORT_BASE: must be 1024..65435, is '80'\n"


def test_without_prometheus_no_query_is_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(home=tmp_path, port_base=23_000)
    _print_addresses(layout)
    shown = capsys.readouterr().out
    assert "Prometheus  left out" in shown
    assert "api/v1/query" not in shown
    assert "text=1*0712000002*500*2468" in shown
    assert "kibubu transfer 254712000001 254712000002 500" in shown
