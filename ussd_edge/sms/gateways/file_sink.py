"""A file instead of a network, for development: a line of JSON for each text. Since the file remembers the ids, a text
that is sent again after a crash is in it once."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ussd_edge.sms.limits import FILE_BYTES_MAX, FILE_IDS_REMEMBERED_MAX, FILE_TAIL_BYTES, SHOWN_MAX
from ussd_edge.sms.seam import Sms, SmsFailedError


class FileSink:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids: OrderedDict[str, None] = OrderedDict()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in (_aside(path), path):
            for line in _whole_lines(file):
                self._remember(str(line["id"]))
        self._file = self._open()

    def _open(self) -> Any:
        file = self._path.open("ab")
        os.fchmod(file.fileno(), 0o600)
        kept = self._path.read_bytes()
        file.truncate(kept.rfind(b"\n") + 1)  # a line that a crash cut short was never acknowledged
        return file

    def _remember(self, sms_id: str) -> None:
        self._ids[sms_id] = None
        if len(self._ids) > FILE_IDS_REMEMBERED_MAX:
            self._ids.popitem(last=False)

    async def send(self, sms: Sms) -> None:
        if sms.id in self._ids:
            return
        line = {"id": sms.id, "msisdn": sms.msisdn, "text": sms.text, "made_ns": sms.made_ns}
        try:
            if self._file.tell() >= FILE_BYTES_MAX:
                self._file.close()
                self._path.replace(_aside(self._path))
                self._file = self._open()
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SmsFailedError(f"the file cannot be written: {error.strerror}") from error
        self._remember(sms.id)

    async def close(self) -> None:
        self._file.close()


def newest_for(path: Path, msisdn: str) -> list[dict[str, Any]]:
    """The last texts to a phone, the newest first, as far as the end of the file goes."""
    found = [line for line in _whole_lines(path, FILE_TAIL_BYTES) if line.get("msisdn") == msisdn]
    return found[: -SHOWN_MAX - 1 : -1]


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _whole_lines(path: Path, bytes_max: int = 2 * FILE_BYTES_MAX) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - bytes_max, 0))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    whole = lines[1 if size > bytes_max else 0 : -1]  # the first may have begun earlier, the last is empty or torn
    return [json.loads(line) for line in whole]
