"""A node's data folder: opens journal and ledger, installs a received snapshot before, and tells a new folder from one
that was lost.

    raft/          the journal                       ledger/      the state
    snapshots/     copies, made and received         set-aside/   what was found damaged last
    new-cluster    this node is one of a cluster that is only now made
    damaged        why the data is to be set aside at the next start

A node that finds no journal and no `new-cluster` had one before: it joins as a node that may not vote until it has
caught up. `kibubu up` leaves `new-cluster` in the folders of a cluster that it makes, and never again.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from node.storage.damage import DAMAGE, DamagedFolderError, damage_of, mark_damaged, set_aside
from node.storage.files import sync_folder
from node.storage.ledger_db import adopt_copy
from node.storage.ledger_store import LedgerStore, StoreConfig
from node.storage.raft_log import RaftLog
from node.storage.snapshot_files import Mark, SnapshotFiles, install_if_marked

NEW_CLUSTER = "new-cluster"
_log = logging.getLogger("kibubu.storage")


@dataclass(frozen=True, slots=True)
class DataFolder:
    log: RaftLog
    store: LedgerStore
    snapshots: SnapshotFiles
    installed: Mark | None  # the snapshot that this very start has installed


def open_data_folder(folder: Path, config: StoreConfig, *, alone: bool) -> DataFolder:
    """`alone`: a cluster of one, which has nobody to join. Damaged data is set aside, and the node joins anew. Raises
    RaftLogError, ForeignDataError, SnapshotError or DamagedFolderError when the folder cannot be used."""
    reason = damage_of(folder)
    if not reason:
        try:
            return _open(folder, config, alone=alone)
        except DAMAGE as error:
            reason = f"{type(error).__name__}: {error}"
            mark_damaged(folder, reason)
    if alone:
        raise DamagedFolderError(f"{folder} is damaged ({reason}), and no other node has the data: restore a backup")
    _log.error("%s is damaged (%s): it is set aside, and this node joins anew", folder, reason)
    (folder / NEW_CLUSTER).unlink(missing_ok=True)
    set_aside(folder)
    return _open(folder, config, alone=alone)


def _open(folder: Path, config: StoreConfig, *, alone: bool) -> DataFolder:
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
