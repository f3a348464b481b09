"""Where a cluster lives, and what the environment may say about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.layout import PORTS_PER_CLUSTER, PROJECT_ROOT, Layout, LayoutError, free_port_base, layout_from_environment


def test_two_clusters_beside_each_other_share_no_port_and_no_file(tmp_path: Path) -> None:
    one = Layout(home=tmp_path / "a", port_base=7_100)
    two = Layout(home=tmp_path / "b", port_base=7_100 + PORTS_PER_CLUSTER)
    assert len(set(one.ports)) == len(one.ports) == 17
    assert not set(one.ports) & set(two.ports)
    assert all(one.port_base <= port < one.port_base + PORTS_PER_CLUSTER for port in one.ports)
    for name in one.services:
        for of in (Layout.config_file, Layout.data_dir, Layout.log_file, Layout.pid_file):
            assert of(one, name).is_relative_to(one.home)
    assert len({one.pid_file(name) for name in one.services}) == len(one.services)


def test_the_environment_chooses_folder_and_ports(tmp_path: Path) -> None:
    chosen = layout_from_environment({"KIBUBU_HOME": str(tmp_path), "KIBUBU_PORT_BASE": "9000"})
    assert (chosen.home, chosen.port_base) == (tmp_path, 9_000)
    assert layout_from_environment({}).home == PROJECT_ROOT / ".kibubu"
    assert layout_from_environment({"KIBUBU_HOME": "", "KIBUBU_PORT_BASE": ""}).port_base == 7_100
    assert layout_from_environment({"KIBUBU_HOME": "relative"}).home.is_absolute()


@pytest.mark.parametrize(
    "raw", ["80", "1023", "65436", "99999", "-1", "7100.0", "x", "\uff17\uff11\uff10\uff10", " 7100"]
)
def test_a_port_base_that_cannot_be_is_refused(raw: str) -> None:
    with pytest.raises(LayoutError, match=r"KIBUBU_PORT_BASE: must be 1024\.\.65435"):
        layout_from_environment({"KIBUBU_PORT_BASE": raw})


def test_an_unknown_node_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="there is no node 'n9'"):
        Layout(home=tmp_path, port_base=7_100).api_address("n9")


def test_a_free_port_base_is_whole_and_below_the_kernels_own_ports() -> None:
    base = free_port_base()
    assert base % PORTS_PER_CLUSTER == 0
    assert 12_000 <= base < 30_000
