"""One real cluster for all tests of this folder: three nodes, sidecar, edge, Prometheus."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import demo, lifecycle
from cluster.calls import Caller, operator_caller
from cluster.layout import Layout, free_port_base
from cluster.packages import ensure_packages
from cluster.vocabulary import AccountKind

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    ensure_packages()
    layout = Layout(home=tmp_path_factory.mktemp("cluster"), port_base=free_port_base())
    try:
        lifecycle.up(layout, lambda _: None)
        yield layout
    finally:
        lifecycle.down(layout, lambda _: None)


@pytest.fixture
def operator(cluster: Layout) -> Iterator[Caller]:
    lifecycle.up(cluster, lambda _: None, seed=False)  # whatever the test before has broken runs again
    with operator_caller(cluster, deadline_s=20) as caller:
        yield caller


@pytest.fixture
def customer(operator: Caller) -> Callable[..., str]:
    """Makes a customer nobody else uses; returns the MSISDN."""

    def make(opening_minor: int = 1_000_000, name: str = "Customer") -> str:
        msisdn = f"25472{next(_numbers):07d}"
        account = demo.DemoAccount(
            name, "msisdn", msisdn, AccountKind.CUSTOMER, pin=demo.DEMO_PIN, opening_minor=opening_minor
        )
        demo.create_accounts(operator, [account])
        return msisdn

    return make


@pytest.fixture
def state_folder(cluster: Layout) -> Path:
    return cluster.home
