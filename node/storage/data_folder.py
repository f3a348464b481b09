"""A node's data folder: opens journal and ledger, installs a received snapshot before, and tells a new folder from one
that was lost.

    raft/          the journal                       ledger/      the state
    snapshots/     copies, made and received         new-cluster  this node is one of a cluster that is only now made

A node that finds no journal and no `new-cluster` had one before: it joins as a node that may not vote until it has
caught up. `kibubu up` leaves `new-cluster` in the folders of a cluster that it makes, and never again.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from node.storage.ledger_db import adopt_copy
from node.storage.ledger_store import LedgerStore, StoreConfig
from node.storage.raft_log import RaftLog
from node.storage.snapshot_files import Mark, SnapshotFiles, install_if_marked, sync_folder

NEW_CLUSTER = "new-cluster"


@dataclass(frozen=True, slots=True)
class DataFolder:
    log: RaftLog
    store: LedgerStore
    snapshots: SnapshotFiles
    installed: Mark | None  # the snapshot that this very start has installed


def open_data_folder(folder: Path, config: StoreConfig, *, alone: bool) -> DataFolder:
    """`alone`: a cluster of one, which has nobody to join. Raises RaftLogError, ForeignDataError or SnapshotError when
    the folder is another node's, damaged or in use."""
    marker = folder / NEW_CLUSTER
    joins = not alone and not marker.exists()
    log = RaftLog(folder / "raft", cluster_id=config.cluster_id, node_id=config.node_id, joins=joins)

    def adopt(path: Path, position: int) -> None:
        adopt_copy(path, position, config.cluster_id, config.node_id, config.map_bytes)

    with ExitStack() as undo:
        undo.callback(log.close)
        installed = install_if_marked(folder / "snapshots", folder / "ledger", log, adopt)
        store = LedgerStore(folder / "ledger", config)
        undo.callback(store.close)
        if marker.exists():
            marker.unlink()
            sync_folder(folder)
        snapshots = SnapshotFiles(folder / "snapshots", store.copy_to)
        undo.pop_all()
    return DataFolder(log, store, snapshots, installed)
