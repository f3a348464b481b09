"""Prometheus's own tool checks what we give it: configuration, recording rules, and that each alert fires when it
should and only then."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.config_files import PROMETHEUS_SOURCES, prepare
from cluster.layout import PROMETHEUS, Layout
from cluster.packages import ensure_packages

RULES = PROMETHEUS_SOURCES / "kibubu.rules.yml"
ALERT_TESTS = Path(__file__).parent / "prometheus" / "alerts.test.yml"


@pytest.fixture(scope="module", autouse=True)
def promtool() -> str:
    ensure_packages()
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool comes with Debian's prometheus, which cannot be installed here")
    return program


def run(promtool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def test_the_written_configuration_is_one(promtool: str, tmp_path: Path) -> None:
    layout = Layout(home=tmp_path / 'a "home" of Ngũgĩ', port_base=23_000)
    prepare(layout)
    done = run(promtool, "check", "config", layout.config_file(PROMETHEUS))
    assert done.returncode == 0, done.stderr
    assert "1 rule files found" in done.stdout
    text = layout.config_file(PROMETHEUS).read_text(encoding="utf-8")
    for name in (*layout.node_ids, "fraud", "edge"):
        assert layout.metrics_address(name) in text


def test_every_alert_fires_when_it_should_and_only_then(promtool: str, tmp_path: Path) -> None:
    done = run(promtool, "test", "rules", written(tmp_path, RULES.read_text(encoding="utf-8")))
    assert done.returncode == 0, done.stdout + done.stderr
    tested = set(re.findall(r"alertname: (\w+)", ALERT_TESTS.read_text(encoding="utf-8")))
    assert tested == set(re.findall(r"alert: (\w+)", RULES.read_text(encoding="utf-8")))


def written(folder: Path, rules: str) -> Path:
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    tests = folder / "alerts.yml"
    tests.write_text(ALERT_TESTS.read_text(encoding="utf-8").replace("RULES", "rules.yml"), encoding="utf-8")
    return tests


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('up{job="node"} == 0', 'up{job="nodes"} == 0'),
        ("or vector(0)) < 1", ") < 1"),
        ("- kibubu_raft_applied_position > 1000", "- kibubu_raft_applied_position > 9000"),
        ("max(sum by (node) (rate(kibubu_transfers_total", "sum(sum by (node) (rate(kibubu_transfers_total"),
        ("histogram_quantile(0.99, sum by (stage", "histogram_quantile(0.9, sum by (stage"),
    ],
)
def test_a_wrong_rule_is_found(promtool: str, tmp_path: Path, right: str, wrong: str) -> None:
    rules = RULES.read_text(encoding="utf-8")
    assert right in rules
    if right.startswith("or"):  # without the vector a cluster that is wholly gone would be quiet
        rules = rules.replace('(sum(kibubu_raft_role{role="leader"})', '(sum(kibubu_raft_role{role="leader"} > 0)')
    assert run(promtool, "test", "rules", written(tmp_path, rules.replace(right, wrong))).returncode == 1


def test_every_metric_that_a_rule_names_is_one_that_we_serve() -> None:
    """A rule over a metric that nobody serves is quiet for ever."""
    rules = RULES.read_text(encoding="utf-8")
    sources = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("node", "fraud", "ussd_edge")
        for path in (RULES.parents[2] / folder).rglob("*.py")
    )
    named = set(re.findall(r"\b(kibubu_[a-z_]+?)(?:_total|_bucket)?\b(?=[{\[\s)-])", rules))
    assert len(named) > 8
    assert {name for name in named if f'"{name}"' not in sources} == set()
