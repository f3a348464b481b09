"""The rules that hold the code together, each shown to be able to fail."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("node", "kibubu_client", "ussd_edge", "fraud", "cluster")
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def unsafe_lines(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [
                f"{node.lineno}: import {a.name}" for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES
            ]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(f"{node.lineno}: from {node.module}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(f"{node.lineno}: {node.func.id}()")
    return found


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--config", folder / "pyproject.toml", "--no-cache"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_imports_point_one_way() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "planted", "broken"),
    [
        ("node/ledger/records.py", "import node.storage.ledger_store", "a node's layers BROKEN"),
        ("node/service/limits.py", "import lmdb", "only storage imports lmdb BROKEN"),
        ("node/payments/plan.py", "import time", "are pure BROKEN"),
        ("ussd_edge/config.py", "import node.ledger.statuses", "the edge knows no node BROKEN"),
        ("cluster/chaos/checker/model.py", "import node.ledger.statuses", "a model of its own BROKEN"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, module: str, planted: str, broken: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / module
    path.write_text(path.read_text(encoding="utf-8") + f"\n{planted}\n", encoding="utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout
    assert broken in result.stdout


def test_nothing_unpickles_or_evaluates() -> None:
    found = {str(path): lines for path in sources() if (lines := unsafe_lines(path.read_text(encoding="utf-8")))}
    assert not found


@pytest.mark.parametrize("planted", ["import pickle", "from marshal import loads", "eval('1')", "import shelve as s"])
def test_a_planted_unsafe_line_is_found(planted: str) -> None:
    assert unsafe_lines(f"x = 1\n{planted}\n")


def test_stubs_are_fresh(tmp_path: Path) -> None:
    protos = sorted((ROOT / "proto" / "kibubu").rglob("*.proto"))
    assert protos
    relative = [str(proto.relative_to(ROOT)) for proto in protos]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", *outs, *relative],
        cwd=ROOT, env=os.environ | {"PATH": path}, check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    made = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*_pb2*")}
    stored_in = ROOT / "proto" / "gen"
    stored = {
        p.relative_to(stored_in): p.read_bytes() for p in stored_in.rglob("*_pb2*") if "__pycache__" not in p.parts
    }
    assert made.keys() == stored.keys()
    assert [str(name) for name in made if made[name] != stored[name]] == [], "run `make proto`"


def test_every_dependency_is_pinned_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    requirements = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(requirements) > 40
    assert all("==" in line for line in requirements)
    assert lock.count("--hash=sha256:") >= len(requirements)
    assert "://" not in lock
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for line in requirements:
        name, version = line.split(" ")[0].split(";")[0].split("==")
        if f'"{name}==' in project:
            assert f'"{name}=={version}"' in project, f"requirements.lock has {line}; run `make lock`"
