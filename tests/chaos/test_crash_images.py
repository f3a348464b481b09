"""No state that the journal and the ledger can be in after a crash is a bad one; and bad ones would be found."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.chaos.images import Disk, Kind, Step, images, read_trace
from tests.chaos import install_images
from tests.chaos.crash_images import judge, record

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="the preload shim needs gcc"),
    pytest.mark.timeout(180),
]
_IMAGES_MAX = 250


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return record(tmp_path_factory.mktemp("trace"), seed=3, steps=30)


def test_no_state_after_a_crash_is_bad(trace: list[Step], tmp_path: Path) -> None:
    every = max(1, sum(1 for _ in images(trace, 3)) // _IMAGES_MAX)
    tally = judge(trace, 3, tmp_path / "image", every)
    assert tally.opened >= _IMAGES_MAX // 2
    assert tally.bad == []


def test_a_disk_that_lies_about_syncs_is_found(trace: list[Step], tmp_path: Path) -> None:
    lying = [step for step in trace if step.kind is not Kind.SYNC]
    tally = judge(lying, 3, tmp_path / "image", every=20, until_bad=True)
    assert tally.bad


def test_a_journal_that_is_not_synced_is_found(trace: list[Step], tmp_path: Path) -> None:
    lying = [step for step in trace if step.kind is not Kind.SYNC or not step.path.endswith(".log")]
    assert len(lying) < len(trace)
    tally = judge(lying, 3, tmp_path / "image", every=20, until_bad=True)
    assert tally.bad


def test_a_segment_whose_name_is_not_synced_is_found(trace: list[Step], tmp_path: Path) -> None:
    lying = [step for step in trace if step.kind is not Kind.SYNC or step.path != "raft"]
    assert len(lying) < len(trace)
    tally = judge(lying, 3, tmp_path / "image", every=5, until_bad=True)
    assert tally.bad


def test_a_promise_before_its_sync_is_found(trace: list[Step], tmp_path: Path) -> None:
    early: list[Step] = []
    for step in trace:
        early.append(step)
        if step.kind is Kind.MARK and b'"journal", "what": "begin"' in step.data:
            early.append(replace(step, data=step.data.replace(b'"begin"', b'"done"')))
    tally = judge(early, 3, tmp_path / "image", every=5, until_bad=True)
    assert tally.bad


def test_a_meta_page_that_is_not_synced_is_found(trace: list[Step], tmp_path: Path) -> None:
    late = [replace(step, kind=Kind.WRITE) if step.kind is Kind.DSYNC_WRITE else step for step in trace]
    tally = judge(late, 3, tmp_path / "image", every=20, until_bad=True)
    assert tally.bad


def test_all_states_of_a_small_trace_by_hand() -> None:
    one, two = Step(Kind.WRITE, "f", 0, b"A" * 512), Step(Kind.WRITE, "f", 512, b"B" * 512)
    found = {image.files.get("f", b"") for image in images([one, two, Step(Kind.SYNC, "f", 0, b"")], 1)}
    assert found == {b"", b"A" * 512, bytes(512) + b"B" * 512, b"A" * 512 + b"B" * 512}


def test_a_synced_write_survives_and_a_later_one_need_not() -> None:
    disk = Disk()
    for step in (Step(Kind.WRITE, "f", 0, b"old"), Step(Kind.SYNC, "f", 0, b""), Step(Kind.WRITE, "f", 0, b"new")):
        disk.take(step)
    assert disk.image([]) == {"f": b"old"}
    assert disk.image(disk.open_writes) == {"f": b"new"}


def test_names_are_durable_with_their_folder() -> None:
    disk = Disk()
    for step in (
        Step(Kind.WRITE, "d/a", 0, b"A"), Step(Kind.SYNC, "d/a", 0, b""), Step(Kind.RENAME, "d/a", 0, b"d/b"),
        Step(Kind.WRITE, "d/b", 0, b"B"), Step(Kind.WRITE, "d/c", 0, b"C"), Step(Kind.REMOVE, "d/c", 0, b""),
    ):  # fmt: skip
        disk.take(step)
    assert disk.image([], 0) == {"d/a": b"A", "d/c": b""}
    assert disk.image(disk.open_writes, 1) == {"d/b": b"B", "d/c": b"C"}
    assert disk.image(disk.open_writes) == {"d/b": b"B"}
    disk.take(Step(Kind.SYNC, "d", 0, b""))
    assert disk.image([]) == {"d/b": b"A"}


def test_a_folder_is_renamed_with_what_is_in_it() -> None:
    disk = Disk()
    for step in (
        Step(Kind.WRITE, "d/old/x", 0, b"X"), Step(Kind.SYNC, "d/old/x", 0, b""),
        Step(Kind.RENAME, "d/old", 0, b"e/new"),
    ):  # fmt: skip
        disk.take(step)
    assert disk.image([], 0) == {"d/old/x": b"X"}
    assert disk.image([]) == {"e/new/x": b"X"}
    disk.take(Step(Kind.SYNC, "d", 0, b""))  # the folder that it left
    assert disk.image([], 0) == {"e/new/x": b"X"}


def test_torn_writes_keep_whole_sectors() -> None:
    step = Step(Kind.WRITE, "f", 0, random.Random(1).randbytes(8 * 512))
    for image in images([step], 1):
        data = image.files.get("f", b"")
        assert len(data) % 512 == 0
        for at in range(0, len(data), 512):
            assert data[at : at + 512] in (bytes(512), step.data[at : at + 512])


def test_a_trace_that_is_not_whole_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(b"x" * 64)
    with pytest.raises(ValueError, match="no record at byte 0"):
        read_trace(tmp_path / "trace")


# --- a snapshot is received and installed -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installing(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return install_images.record(tmp_path_factory.mktemp("installing"))


def test_no_state_after_a_crash_of_an_installation_is_bad(installing: list[Step], tmp_path: Path) -> None:
    tally = install_images.judge(installing, tmp_path / "image", every=4)
    assert tally.opened > 50
    assert tally.bad == []


@pytest.mark.parametrize("unsynced", ["n2/snapshots", "n2/snapshots/incoming/data.mdb"])
def test_an_installation_that_is_not_synced_is_found(installing: list[Step], tmp_path: Path, unsynced: str) -> None:
    lying = [step for step in installing if step.kind is not Kind.SYNC or step.path != unsynced]
    assert len(lying) < len(installing)
    assert install_images.judge(lying, tmp_path / "image", every=1, until_bad=True).bad
