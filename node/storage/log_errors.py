"""What can be wrong with a journal.

RaftLogError
|-- RaftLogIdentityError   the folder belongs to another cluster or node
`-- RaftLogCorruptError    bytes on disk are not what was written
"""

from __future__ import annotations


class RaftLogError(Exception):
    """The journal cannot be used; the message says why."""


class RaftLogIdentityError(RaftLogError):
    """The folder belongs to another cluster or node."""


class RaftLogCorruptError(RaftLogError):
    """Bytes on disk are not what was written."""
