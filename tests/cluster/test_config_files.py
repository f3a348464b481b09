"""What `kibubu up` writes is what the processes read, also where the folder has an odd name."""

from __future__ import annotations

import stat
from pathlib import Path

import fraud.config
import node.service.config
import ussd_edge.config
from cluster.config_files import prepare
from cluster.layout import EDGE, FRAUD, NODE_IDS, Layout


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_the_processes_read_what_is_written(tmp_path: Path) -> None:
    layout = Layout(home=tmp_path / 'a "home" of Ngũgĩ \\', port_base=23_000)
    prepare(layout)
    for node_id in NODE_IDS:
        config = node.service.config.load_config(layout.config_file(node_id))
        assert config.node_id == node_id
        assert config.api_address == layout.api_address(node_id)
        assert {peer.node_id for peer in config.peers} == set(NODE_IDS) - {node_id}
        assert config.data_dir == layout.data_dir(node_id)
        assert config.pin_key_file.read_bytes() == layout.pin_key_file.read_bytes()
        assert all(path.exists() for path in (config.tls.ca, config.tls.cert, config.tls.key))
        assert config.fraud_address == layout.fraud_address
    edge = ussd_edge.config.load_config(layout.config_file(EDGE))
    assert edge.nodes == layout.api_addresses
    assert edge.tls.key.exists()
    sidecar = fraud.config.load_config(layout.config_file(FRAUD))
    assert (sidecar.model_dir / "model.cbm").exists()
    assert sidecar.key.exists()


def test_twice_changes_nothing_and_a_changed_file_is_written_anew(tmp_path: Path) -> None:
    layout = Layout(home=tmp_path / "home", port_base=23_000)
    prepare(layout)
    before = files(layout.home)
    prepare(layout)
    assert files(layout.home) == before
    layout.config_file("n1").write_text("", encoding="utf-8")
    prepare(layout)
    assert {name: content for name, (_, content) in files(layout.home).items()} == {
        name: content for name, (_, content) in before.items()
    }


def test_others_may_not_look_into_the_folders(tmp_path: Path) -> None:
    layout = Layout(home=tmp_path / "home", port_base=23_000)
    prepare(layout)
    for folder in ("config", "data", "logs", "run", "certificates", "keys"):
        assert stat.S_IMODE((layout.home / folder).stat().st_mode) == 0o700, folder


def test_no_secret_stands_in_a_configuration(tmp_path: Path) -> None:
    layout = Layout(home=tmp_path / "home", port_base=23_000)
    prepare(layout)
    key = layout.pin_key_file.read_bytes()
    for path in (layout.home / "config").iterdir():
        content = path.read_bytes()
        assert key not in content
        assert key.hex().encode() not in content
        assert b"PRIVATE KEY" not in content
