"""A small file system of its own for a node's data, in an image file: it can lose power, and it can be full.

A power cut is the file system's shutdown ioctl without flushing its log: what was not synced really vanishes.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_BYTES = 768 << 20  # sparse: only what is used takes room
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, the same number for XFS
_WITHOUT_LOG_FLUSH = struct.pack("I", 2)
_TIMEOUT_S = 60
_BUSY_S = 15.0
_FILLER = "filler"
_PIECE_BYTES = 1 << 20


class VolumeError(Exception):
    """The machine does not let a loop file system be made or mounted; the message has the command and its answer."""


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VolumeError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise VolumeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


class Volume:
    def __init__(self, image: Path, folder: Path, kind: str = "ext4") -> None:
        self._image = image
        self._kind = kind
        self.folder = folder

    def create(self) -> None:
        self._image.parent.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        _run(f"mkfs.{self._kind}", "-q", str(self._image))
        self.mount()
        self.folder.chmod(0o700)

    def mount(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "-o", "loop", str(self._image), str(self.folder))

    def unmount(self) -> None:
        """A killed process lets go of its files when its last thread has ended, so a busy folder is tried again."""
        end_s = time.monotonic() + _BUSY_S
        while True:
            try:
                _run("umount", str(self.folder))
                return
            except VolumeError:
                if time.monotonic() > end_s:
                    raise
            time.sleep(0.05)

    def cut_power(self) -> None:
        """From now on every write and sync fails; unmount and mount again to see what was on the disk."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def fill(self) -> int:
        """Takes all the room that is left; returns how many bytes that was."""
        taken = 0
        descriptor = os.open(self.folder / _FILLER, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            for piece in (_PIECE_BYTES, 4096):
                taken += _fill_with(descriptor, piece, taken)
        finally:
            os.close(descriptor)
        return taken

    def make_room(self) -> None:
        (self.folder / _FILLER).unlink(missing_ok=True)


def _fill_with(descriptor: int, piece_bytes: int, offset: int) -> int:
    taken = 0
    while True:
        try:
            os.posix_fallocate(descriptor, offset + taken, piece_bytes)
        except OSError:
            return taken
        taken += piece_bytes


@contextmanager
def open_volume(image: Path, folder: Path, kind: str = "ext4") -> Iterator[Volume]:
    """Raises VolumeError when the machine forbids it."""
    volume = Volume(image, folder, kind)
    try:
        volume.create()
        yield volume
    finally:
        if os.path.ismount(folder):
            volume.unmount()
        image.unlink(missing_ok=True)
