"""Which group on disk holds which entries: four numbers for each group that has entries, however many those are."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple

from node.storage.groups import BLOCK, Place


class Found(NamedTuple):
    place: Place
    first: int  # the group's own first entry
    last: int  # the last one for which this group counts; a later group may have replaced the rest


class LogIndex:
    def __init__(self) -> None:
        self._firsts = array("Q")
        self._segments = array("Q")
        self._blocks = array("I")
        self._sizes = array("I")
        self.last = 0  # entry that the newest group ends with
        self.bytes = 0  # on disk, of all groups in here

    def __len__(self) -> int:
        return len(self._firsts)

    def add(self, first: int, last: int, place: Place) -> None:
        self._firsts.append(first)
        self._segments.append(place.segment)
        self._blocks.append(place.block)
        self._sizes.append(place.blocks)
        self.last = last
        self.bytes += place.blocks * BLOCK

    def cut(self, first: int) -> None:
        """Entries from `first` on were taken back."""
        keep = len(self)
        while keep and self._firsts[keep - 1] >= first:
            keep -= 1
        self._delete(keep, len(self))
        self.last = min(self.last, first - 1)

    def drop(self, base: int) -> None:
        """Entries up to `base` are not needed any more."""
        count = len(self) if base >= self.last else bisect_right(self._firsts, base + 1) - 1
        self._delete(0, max(0, count))

    def find(self, index: int) -> Found:
        """Raises KeyError when no group has the entry."""
        at = self.number_of(index)
        if at < 0 or index > self.last:
            raise KeyError(index)
        last = self._firsts[at + 1] - 1 if at + 1 < len(self) else self.last
        return Found(self.place(at), self._firsts[at], last)

    def number_of(self, index: int) -> int:
        """Of the group that has the entry, counted from 0; -1 = it lies before all of them."""
        return bisect_right(self._firsts, index) - 1

    def first(self, number: int) -> int:
        return self._firsts[number]

    def place(self, number: int) -> Place:
        return Place(self._segments[number], self._blocks[number], self._sizes[number])

    def behind(self, number: int, bytes_max: int) -> int:
        """The number of the group that lies so many bytes of groups farther; len(self) = the end comes before."""
        size = 0
        while number < len(self) and size < bytes_max:
            size += self._sizes[number] * BLOCK
            number += 1
        return number

    def _delete(self, begin: int, end: int) -> None:
        self.bytes -= BLOCK * sum(self._sizes[begin:end])
        for numbers in (self._firsts, self._segments, self._blocks, self._sizes):
            del numbers[begin:end]
