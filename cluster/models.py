"""The sidecar's models, over its own service: which are loaded, another into use or the shadow, the last one back."""

from __future__ import annotations

from pathlib import Path

from kibubu.fraud.v1 import fraud_pb2, fraud_pb2_grpc

from cluster.calls import Caller

LOAD_TIMEOUT_S = 60.0  # a model is read, checked and measured first


def load(caller: Caller, address: str, folder: Path, *, as_challenger: bool) -> None:
    """Raises CallError when the model does not pass its checks; then nothing has changed."""
    request = fraud_pb2.LoadModelRequest(model_dir=str(folder.resolve()), as_challenger=as_challenger)
    caller.one(
        address, lambda channel: fraud_pb2_grpc.FraudServiceStub(channel).LoadModel, request, timeout_s=LOAD_TIMEOUT_S
    )


def roll_back(caller: Caller, address: str) -> None:
    """Raises CallError when there is no model to go back to."""
    request = fraud_pb2.RollBackModelRequest()
    caller.one(address, lambda channel: fraud_pb2_grpc.FraudServiceStub(channel).RollBackModel, request)


def describe(caller: Caller, address: str) -> str:
    """One line a model."""
    request = fraud_pb2.GetModelRequest()
    answer = caller.one(address, lambda channel: fraud_pb2_grpc.FraudServiceStub(channel).GetModel, request)
    lines = [
        f"champion {answer.model_sha256[:8]}, {len(answer.feature_names)} features; a payment of 1,000 is held from a "
        f"probability of {answer.hold_threshold:.3f}"
    ]
    if answer.challenger_sha256:
        lines.append(f"challenger {answer.challenger_sha256[:8]}, in the shadow")
    if answer.previous_sha256:
        lines.append(f"previous {answer.previous_sha256[:8]}, for a roll-back")
    return "\n".join(lines)
