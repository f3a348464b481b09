"""How the service says that a request has no business answer, and how that becomes a gRPC status.

ServiceError
+-- NotAppliedError      surely nothing happened: retry as you like      UNAVAILABLE
|   +-- QueueFullError   this node has all the work it can take          RESOURCE_EXHAUSTED
+-- UnknownOutcomeError  it may have happened: ask again, same id        DEADLINE_EXCEEDED
+-- InvalidRequestError  the request breaks a rule of its form           INVALID_ARGUMENT
"""

from __future__ import annotations

import grpc

LEADER_ADDRESS_KEY = "kibubu-leader-address"
NOT_APPLIED_KEY = "kibubu-not-applied"


class ServiceError(Exception):
    code = grpc.StatusCode.INTERNAL

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


class NotAppliedError(ServiceError):
    code = grpc.StatusCode.UNAVAILABLE

    def __init__(self, message: str, leader_address: str = "") -> None:
        super().__init__(message)
        self.leader_address = leader_address

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        leader = ((LEADER_ADDRESS_KEY, self.leader_address),) if self.leader_address else ()
        return ((NOT_APPLIED_KEY, "1"), *leader)


class QueueFullError(NotAppliedError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class UnknownOutcomeError(ServiceError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class InvalidRequestError(ServiceError):
    """The message names the field and the rule."""

    code = grpc.StatusCode.INVALID_ARGUMENT
