"""The register of faults: what each is called, does and needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the ground is prepared for needs, which are declared here
    from cluster.chaos.ground import Ground

Need = Literal["prometheus", "network", "hub", "shim", "strace", "volumes", "faketime", "cgroup"]
Strike = Callable[["Ground"], None]


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    says: str
    needs: tuple[Need, ...]
    strike: Strike
    in_mix: bool
    is_canary: bool  # breaks what the cluster stands on: an ordeal with it must fail


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *, needs: tuple[Need, ...] = (), in_mix: bool = True, is_canary: bool = False
) -> Callable[[Strike], Strike]:
    def note(strike: Strike) -> Strike:
        FAULTS[name] = Fault(name, (strike.__doc__ or "").strip(), needs, strike, in_mix and not is_canary, is_canary)
        return strike

    return note
