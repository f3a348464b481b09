"""Crashes and damage of the journal's files: a torn tail is cut off, everything else that is not as it was written is
found, and nothing that was synced is ever lost in silence."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from node.storage.folder import SystemFolder
from node.storage.groups import BLOCK, MAGIC
from node.storage.log_errors import RaftLogCorruptError
from node.storage.log_identity import NOTE, SyncedNote
from node.storage.raft_log import RaftLog
from node.storage.segments import name_of, segments_in
from tests.storage.test_raft_log import SEGMENT, contents, open_log

ROOT = Path(__file__).parents[2]
Entries = list[tuple[int, bytes]]


def filled(path: Path, sizes: tuple[int, ...], start: int = 0) -> list[Entries]:
    """One sync for each size; the contents after each of them."""
    log = open_log(path)
    log.set_term(1, "n2")
    states = [contents(log)]
    for number, size in enumerate(sizes, start=start):
        log.append(1, bytes([number % 251 + 1]) * size)
        log.sync()
        states.append(contents(log))
    log.close()
    return states


def newest_segment(path: Path) -> Path:
    return path / name_of(segments_in(SystemFolder(path))[-1])


def used_bytes(file: Path) -> int:
    """Up to the end of the last group: zeros follow."""
    return -(-len(file.read_bytes().rstrip(b"\0")) // BLOCK) * BLOCK


def forget_note(path: Path) -> None:
    (path / NOTE).write_bytes(bytes(BLOCK))


def opened(path: Path) -> Entries:
    log = open_log(path)
    try:
        return contents(log)
    finally:
        log.close()


# Torn writes: what a power cut leaves of the last group, the note of it being late


def test_last_group_torn_at_any_sector_is_cut_off(tmp_path: Path) -> None:
    """By zeros and by what a recycled file held before. Only when it is whole it may be there."""
    before, after = filled(tmp_path / "log", (100, 9_000))[-2:]
    file = newest_segment(tmp_path / "log")
    data, end = file.read_bytes(), used_bytes(file)
    begin, length = end - 3 * BLOCK, len(data.rstrip(b"\0"))
    assert data[begin : begin + 4] == MAGIC
    for cut in range(begin, end + 1, 512):
        for rest in (bytes(end - cut), random.Random(cut).randbytes(end - cut), data[: end - cut]):
            torn = data[:cut] + rest + data[end:]
            is_whole = torn[:length] == data[:length]
            assert found_after_power_cut(tmp_path, file.name, torn) == (after if is_whole else before)
        holed = data[:cut] + bytes(512) + data[cut + 512 :]  # one sector was lost, those behind it were not
        if cut < end:
            is_whole = holed[:length] == data[:length]
            assert found_after_power_cut(tmp_path, file.name, holed) == (after if is_whole else before)


def found_after_power_cut(tmp_path: Path, name: str, data: bytes) -> Entries:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(tmp_path / "log", copy)
    forget_note(copy)
    (copy / name).write_bytes(data)
    found = opened(copy)
    assert opened(copy) == found  # and so at the start after that, with what was written behind it
    return found


def test_last_group_cut_at_any_byte_of_its_head(tmp_path: Path) -> None:
    before, after = filled(tmp_path / "log", (100, 200))[-2:]
    file = newest_segment(tmp_path / "log")
    data, end = file.read_bytes(), used_bytes(file)
    length = len(data.rstrip(b"\0"))
    for cut in range(end - BLOCK, length + 1, 7):
        torn = data[:cut] + bytes(len(data) - cut)
        assert found_after_power_cut(tmp_path, file.name, torn) == (after if cut >= length else before), cut


def test_segment_of_which_nothing_was_written_is_undone(tmp_path: Path) -> None:
    """Power cut between the new name and the first group."""
    states = filled(tmp_path / "log", tuple([3_000] * 40))
    folder = SystemFolder(tmp_path / "log")
    number = open_and_count(tmp_path / "log")
    folder.create(name_of(number + 1), SEGMENT).close()
    assert opened(tmp_path / "log") == states[-1]
    filled(tmp_path / "log", tuple([3_000] * 40), start=40)
    assert len(opened(tmp_path / "log")) == 80


def open_and_count(path: Path) -> int:
    log = open_log(path)
    log.close()
    return log_number(path)


def log_number(path: Path) -> int:
    return SyncedNote(SystemFolder(path)).number


def test_segments_that_were_given_up_and_came_back_do_no_harm(tmp_path: Path) -> None:
    """Their new names were not durable: they are there again, some of them, with old or with new contents."""
    path = tmp_path / "log"
    kept: dict[str, bytes] = {}
    log = open_log(path)
    log.set_term(1, "")
    for number in range(120):
        log.append(1, b"%03d" % number * 900)
        log.sync()
        kept |= {file.name: file.read_bytes() for file in path.glob("*.log")}
        if number % 20 == 19:
            log.set_commit(log.last_index)
            log.compact(log.last_index - 5)
            log.sync()
    expected = contents(log)
    log.close()
    gone = [name for name in sorted(kept) if not (path / name).exists()]
    assert len(gone) >= 4
    for names in (gone, gone[-1:], gone[:1], gone[::2], gone[1::2]):
        for data in (None, bytes(SEGMENT), newest_segment(path).read_bytes()):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(path, copy)
            for name in names:
                (copy / name).write_bytes(data or kept[name])
            assert opened(copy) == expected


# Damage


def test_damage_to_the_last_group_is_no_torn_write_once_it_was_synced(tmp_path: Path) -> None:
    filled(tmp_path / "log", (100, 200))
    file = newest_segment(tmp_path / "log")
    data = bytearray(file.read_bytes())
    data[used_bytes(file) - BLOCK + 20] ^= 1
    file.write_bytes(data)
    with pytest.raises(RaftLogCorruptError, match=r"group \d+ was synced, but the journal ends with"):
        open_log(tmp_path / "log")


def test_note_that_is_lost_or_damaged_is_no_evidence(tmp_path: Path) -> None:
    states = filled(tmp_path / "log", (100, 200))
    (tmp_path / "log" / NOTE).write_bytes(b"\x07" * BLOCK)
    assert opened(tmp_path / "log") == states[-1]
    (tmp_path / "log" / NOTE).unlink()
    assert opened(tmp_path / "log") == states[-1]


@pytest.mark.parametrize("seed", range(4))
def test_every_flipped_bit_of_a_group_is_found_when_the_log_is_opened(tmp_path: Path, seed: int) -> None:
    """In whatever segment; even without the note, unless it is the last group of all."""
    chance = random.Random(seed)
    log = open_log(tmp_path / "log")
    log.set_term(2, "n1")
    ends: list[tuple[Path, int]] = []
    for _ in range(60):
        log.append(2, chance.randbytes(chance.choice((10, 900, 6_000))))
        log.sync()
        file = newest_segment(tmp_path / "log")
        ends.append((file, len(file.read_bytes().rstrip(b"\0"))))
    log.close()
    for number in range(40):
        file, end = ends[chance.randrange(len(ends) - 2)]
        begin = chance.randrange(end)
        data = bytearray(file.read_bytes())
        before = bytes(data)
        data[begin] ^= 1 << chance.randrange(8)
        is_padding = not before[begin] and not before[begin : begin // BLOCK * BLOCK + BLOCK].strip(b"\0")
        file.write_bytes(data)
        if number % 2:
            forget_note(tmp_path / "log")
        if not is_padding:
            with pytest.raises(RaftLogCorruptError):
                open_log(tmp_path / "log")
        file.write_bytes(before)
    opened(tmp_path / "log")


def test_missing_segment_or_identity_is_found(tmp_path: Path) -> None:
    filled(tmp_path / "log", tuple([3_000] * 60))
    names = sorted(path.name for path in (tmp_path / "log").glob("*.log"))
    assert len(names) >= 3
    for name in (*names, "identity"):
        for note in (True, False):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(tmp_path / "log", copy)
            (copy / name).unlink()
            if not note:
                forget_note(copy)
            if note or name != names[-1]:
                with pytest.raises(RaftLogCorruptError):
                    open_log(copy)


def test_contents_of_another_place_are_no_group(tmp_path: Path) -> None:
    """A sound group of the same folder, put where another one should be; a payload that is a copy of groups."""
    states = filled(tmp_path / "log", (100, 100, 100))
    file = newest_segment(tmp_path / "log")
    data = bytearray(file.read_bytes())
    payload = bytes(data[: 4 * BLOCK])
    data[3 * BLOCK : 4 * BLOCK] = data[2 * BLOCK : 3 * BLOCK]
    sound = file.read_bytes()
    file.write_bytes(data)
    with pytest.raises(RaftLogCorruptError):
        open_log(tmp_path / "log")
    file.write_bytes(sound)
    log = open_log(tmp_path / "log")
    log.append(1, payload)
    log.append(1, b"behind it")
    log.sync()
    log.close()
    assert opened(tmp_path / "log") == [*states[-1], (1, payload), (1, b"behind it")]


# The scrubber's part


def test_check_finds_every_flipped_bit_while_the_log_is_open(tmp_path: Path) -> None:
    chance = random.Random(5)
    log = open_log(tmp_path, memory_bytes_max=0)
    log.set_term(1, "n1")
    for number in range(50):
        log.append(1, chance.randbytes(chance.choice((10, 900, 6_000))))
        if number == 30:
            log.sync()
            log.truncate(20)
        log.sync()
    passes(log)
    for segment, blocks in list(log._files().used.items()):
        file = tmp_path / name_of(segment)
        for block in range(0, blocks, 2):
            data = bytearray(file.read_bytes())
            before = bytes(data)
            content = len(before[block * BLOCK : (block + 1) * BLOCK].rstrip(b"\0"))
            if not content:
                continue
            data[block * BLOCK + chance.randrange(content)] ^= 1 << chance.randrange(8)
            file.write_bytes(data)
            with pytest.raises(RaftLogCorruptError):
                passes(log)
            file.write_bytes(before)
    passes(log)
    log.close()


def passes(log: RaftLog) -> int:
    first, total, steps = 1, 0, 0
    while first:
        following, size = log.check(first, 10_000)
        assert following == 0 or following > first
        first, total, steps = following, total + size, steps + 1
    assert steps > 1
    assert total == BLOCK * sum(log._files().used.values())
    return total


def test_check_runs_beside_a_log_whose_segments_are_recycled(tmp_path: Path) -> None:
    log = open_log(tmp_path, memory_bytes_max=5_000)
    log.set_term(1, "")
    done, failures, steps = threading.Event(), [], [0]

    def scrub() -> None:
        first = 1
        try:
            while not done.is_set():
                first = log.check(first, 20_000)[0] or 1
                steps[0] += 1
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=scrub)
    thread.start()
    for number in range(1_500):
        log.append(1, b"%d" % number * 200)
        log.sync()
        if number % 10 == 9:
            log.set_commit(log.last_index)
            log.compact(log.last_index - 12)
            log.sync()
    done.set()
    thread.join()
    log.close()
    assert failures == []
    assert steps[0] > 20


# A real process, killed


CHILD = """
import os, sys
from pathlib import Path
from node.storage.raft_log import RaftLog
log = RaftLog(Path(sys.argv[1]), cluster_id="c", node_id="n1", segment_bytes=65_536, memory_bytes_max=10_000)
log.set_term(log.term + 1, "n1")
while True:
    for _ in range(3):
        log.append(log.term, b"%d" % (log.last_index + 1) * 400)
    if log.last_index % 7 == 0 and log.durable_index > log.commit_index:
        log.truncate(log.durable_index)
        log.append(log.term, b"%d" % (log.last_index + 1) * 400)
    log.sync()
    os.write(1, b"%d %d\\n" % (log.last_index, log.term))
    if log.last_index % 11 == 0:
        log.set_commit(log.last_index - 2)
        log.compact(log.last_index - 20)
"""


def test_killed_process_loses_nothing_that_it_reported(tmp_path: Path) -> None:
    chance = random.Random(1)
    reported, term = 0, 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "log")],
            cwd=ROOT, env=dict(os.environ, PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(chance.randrange(1, 60)):
            reported, term = map(int, process.stdout.readline().split())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines()
        process.stdout.close()
        process.wait()
        if rest and len(rest[-1].split()) == 2:
            reported, term = map(int, rest[-1].split())
        log = open_log(tmp_path / "log")
        assert log.term == term
        assert log.last_index >= reported - 1  # the child takes its last entry back now and then
        for index, (_, data) in enumerate(contents(log), start=log.base_index + 1):
            assert data == b"%d" % index * 400
        log.close()
