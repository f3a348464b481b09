"""What happened, as lines for a reader and as one running hash: the same seed gives the same hash in every process."""

from __future__ import annotations

import hashlib

from node.consensus.frames import decode
from node.consensus.messages import Append, SnapshotChunk
from tests.simulation.clock import Timeline


class Trace:
    def __init__(self, timeline: Timeline, *, keep: bool = False) -> None:
        self._timeline = timeline
        self._digest = hashlib.blake2b(digest_size=16)
        self.keep = keep
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        line = f"{self._timeline.now:.6f} {text}"
        self._digest.update(line.encode())
        if self.keep:
            self.lines.append(line)

    def frame(self, what: str, source: str, target: str, frame: bytes) -> None:
        self._digest.update(f"{self._timeline.now:.6f} {what} {source}>{target}".encode())
        self._digest.update(frame)
        if self.keep:
            self.lines.append(f"{self._timeline.now:.6f} {what} {source}>{target} {readable(frame)}")

    def hash(self) -> str:
        return self._digest.hexdigest()


def readable(frame: bytes) -> str:
    message = decode(frame)
    if isinstance(message, SnapshotChunk):
        return f"SnapshotChunk(term={message.term}, offset={message.offset}, bytes={len(message.data)})"
    if not isinstance(message, Append):
        return repr(message)
    return (
        f"Append(term={message.term}, prev={message.prev_index}/{message.prev_term}, commit={message.commit_index}, "
        f"round={message.read_round}, entries={[(term, len(data)) for term, data in message.entries]})"
    )
