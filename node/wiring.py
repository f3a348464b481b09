"""The one place that constructs a node and connects its parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc
from kibubu.bulk.v1 import bulk_pb2, bulk_pb2_grpc
from kibubu.config.v1 import config_pb2, config_pb2_grpc
from kibubu.feed.v1 import feed_pb2, feed_pb2_grpc
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc
from kibubu.review.v1 import review_pb2, review_pb2_grpc
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, start_http_server

from node.consensus.contract import LogEntry
from node.consensus.engine import RaftEngine, exit_at_once
from node.consensus.seams import ConsensusConfig, FatalRaftError, SystemClock, TlsFiles
from node.consensus.transport import GrpcTransport
from node.ledger.history import BrokenHistoryError
from node.payments.tariffs import TariffError, load_tariffs
from node.process import rest_collector
from node.service import background
from node.service.admin_servicer import AdminServicer
from node.service.admission import Admission
from node.service.airtime import PROVIDERS
from node.service.airtime_runner import AirtimeRunner
from node.service.applied import AppliedSignal
from node.service.auth import RoleChecks, server_options
from node.service.bulk_book import BulkBook
from node.service.bulk_servicer import BulkServicer
from node.service.config import ConfigError, NodeConfig
from node.service.config_servicer import ConfigServicer
from node.service.expiry import Expiry
from node.service.feed_events import FeedReader
from node.service.feed_servicer import FeedServicer
from node.service.fraud_client import FraudClient
from node.service.fraud_rules import rules_in_force
from node.service.fraud_thresholds import Thresholds, thresholds_in_force
from node.service.guard import Guard
from node.service.in_flight import InFlight
from node.service.leadership import transfer_leadership
from node.service.ledger_servicer import LedgerServicer
from node.service.metrics import EngineCollector, NodeMetrics, RateMeter
from node.service.pay_requests_servicer import PayRequestsServicer
from node.service.payment_book import PaymentBook
from node.service.payment_desk import PaymentDesk
from node.service.payments_servicer import PaymentsServicer
from node.service.reads import ReadBarrier
from node.service.review_book import ReviewBook
from node.service.review_desk import ReviewDesk
from node.service.review_labels import LabelBook
from node.service.review_servicer import ReviewServicer
from node.service.scrubbing import ScrubThread
from node.service.tariff_book import TariffBook
from node.service.tls import load_server_credentials
from node.service.transfer_desk import ScoringPolicy, TransferDesk
from node.service.voucher_payer import VoucherPayer
from node.storage.damage import DAMAGE, DamagedFolderError, mark_damaged
from node.storage.data_folder import DataFolder, open_data_folder
from node.storage.ledger_db import ForeignDataError
from node.storage.ledger_store import StoreConfig
from node.storage.raft_log import RaftLogError
from node.storage.room import RoomWatch
from node.storage.scrub import Scrubber
from node.storage.snapshot_files import SnapshotError
from node.warm_up import warm_up

_log = logging.getLogger("kibubu.node")
_STOP_GRACE_S = 2.0
_RATE_SAMPLE_S = 1.0
_SWITCH_INTERVAL_S = 0.001  # the engine's thread and the service's loop hand the GIL to and fro


class KeyFileError(Exception):
    """The PIN key file is missing, too short, or readable by others."""


def read_key(path: Path) -> bytes:
    """The key that PIN verifiers are made with: at least 32 bytes, a file that only its owner can read."""
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"pin.key_file: {error}") from error
    if mode & 0o077:
        raise KeyFileError(f"pin.key_file: {path} may be read by others (mode {mode & 0o777:o}); make it 0400")
    if len(key) < 32:
        raise KeyFileError(f"pin.key_file: {path} has {len(key)} bytes, at least 32 are needed")
    return key


class TimedStore:
    """The store as the engine's state machine, with the time of each apply in the metrics."""

    def __init__(self, data: DataFolder, metrics: NodeMetrics, on_applied: Callable[[], None]) -> None:
        self._store = data.store
        self._snapshots = data.snapshots
        self._stage_apply = metrics.stage_apply
        self._on_applied = on_applied

    def tick(self, now_ns: int) -> None:
        self._store.tick(now_ns)
        self._snapshots.tidy()

    @property
    def applied_position(self) -> int:
        return self._store.applied_position

    @property
    def durable_position(self) -> int:
        return self._store.durable_position

    def apply(self, entries: Sequence[LogEntry]) -> list[object]:
        started_at = time.perf_counter()
        results: list[object] = [*self._store.apply(entries)]
        self._stage_apply.observe(time.perf_counter() - started_at)
        self._on_applied()
        return results


def start_anew(reason: str) -> None:
    """The same process from its beginning. Nothing more is said to anybody."""
    sys.stderr.write(f"{reason}; this node starts anew\n")
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)


def die(config: NodeConfig, error: BaseException) -> None:
    """From any thread, and the last that this process does: damaged data is rebuilt from the other nodes."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, DAMAGE) and config.peers:
        with contextlib.suppress(OSError):
            mark_damaged(config.data_dir, reason)
            start_anew(f"damaged data ({reason})")
    exit_at_once(reason)


def build_engine(
    config: NodeConfig, data: DataFolder, metrics: NodeMetrics, on_applied: Callable[[], None]
) -> RaftEngine:
    consensus = ConsensusConfig(
        node_id=config.node_id,
        cluster_id=config.cluster_id,
        peers={config.node_id: config.peer_address} | {peer.node_id: peer.peer_address for peer in config.peers},
        listen_address=config.peer_address,
        tls=TlsFiles(config.tls.ca, config.tls.cert, config.tls.key),
        **config.raft,
    )
    return RaftEngine(
        consensus,
        data.log,
        GrpcTransport(consensus),
        SystemClock(),
        TimedStore(data, metrics, on_applied),
        snapshots=data.snapshots,
        room=RoomWatch(config.data_dir, config.reserve_mib << 20, (data.log.room_bytes, data.store.database.map_room)),
        on_fatal_error=lambda error: die(config, error),
        on_install=lambda: start_anew("a snapshot was received and is to be installed"),
    )


def build_fraud_client(
    config: NodeConfig, metrics: NodeMetrics, thresholds: Callable[[], Thresholds]
) -> FraudClient | None:
    """None = switched off by configuration, which every payment record then says."""
    if not config.fraud_address:
        return None
    tls = config.tls
    return FraudClient(config.fraud_address, tls.ca, tls.cert, tls.key, config.fraud_deadline_ms, metrics, thresholds)


class Node:
    """Everything of one process that lives as long as it does."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._pin_key = read_key(config.pin_key_file)
        files = load_tariffs(config.tariff_path)
        store_config = StoreConfig(
            cluster_id=config.cluster_id,
            node_id=config.node_id,
            map_bytes=config.map_gib << 30,
            checkpoint_interval_s=config.checkpoint_interval_s,
        )
        data = open_data_folder(config.data_dir, store_config, alone=not config.peers)
        self._store, self._journal = data.store, data.log
        self._tariffs = TariffBook(self._store, files)
        self._store.on_failure = self._die
        self._scrubber = Scrubber(data.store.database, data.log)
        self._registry = CollectorRegistry()
        self._metrics = NodeMetrics(self._registry)
        self._applied = AppliedSignal(lambda: self._store.applied_position)
        self._engine = build_engine(config, data, self._metrics, self._applied.notify)
        if data.installed is not None:
            _log.info("installed a snapshot of position %d", data.installed.position)
        if not data.log.member.voter:
            _log.warning("this node joins: it votes only once it has caught up with the others")
        self._rate = RateMeter(lambda: self._store.transfers_total)
        self._health = health.aio.HealthServicer()
        self._stopping = asyncio.Event()

    def _die(self, error: BaseException) -> None:
        die(self._config, error)

    def _leader_address(self) -> str:
        return self._config.api_address_of(self._engine.status().leader_id)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        server, fraud = self._build_server()
        self._engine.start()
        await server.start()
        _log.info("node %s of %s serves on %s", self._config.node_id, self._config.cluster_id, self._config.api_address)
        scrub = ScrubThread(self._scrubber, max(self._config.scrub_mib_per_s, 1e-6) * (1 << 20), self._die)
        if self._config.scrub_mib_per_s:
            scrub.start()
        expiry = Expiry(self._engine, lambda: self._store.next_expiry_ns)
        tasks = [background.start(work, self._die) for work in (self._watch(), expiry.run(), *self._runners)]
        if fraud is not None:
            tasks.append(asyncio.create_task(fraud.keep_connected()))
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        if await transfer_leadership(self._engine):
            _log.info("handed the lead over to %s", self._engine.status().leader_id)
        await self._health.enter_graceful_shutdown()
        self._feed.close()
        await server.stop(_STOP_GRACE_S)
        if fraud is not None:
            await fraud.close()
        if self._config.scrub_mib_per_s:
            await asyncio.to_thread(scrub.stop)
        await asyncio.to_thread(self._engine.stop)
        await asyncio.to_thread(self._store.close)

    def _build_server(self) -> tuple[grpc.aio.Server, FraudClient | None]:
        config, metrics = self._config, self._metrics
        guard = Guard(self._engine, metrics, self._leader_address)
        guard.on_storage_failure = self._die
        admission = Admission(self._engine, metrics, leader_address=self._leader_address)
        barrier = ReadBarrier(self._engine, self._leader_address)
        thresholds = thresholds_in_force(self._store)
        fraud = build_fraud_client(config, metrics, thresholds)
        provider = PROVIDERS[config.airtime_provider]
        book = PaymentBook(self._store, self._tariffs, self._pin_key, airtime_waits=provider is not None)
        in_flight, rules = InFlight(), rules_in_force(self._store, config.fraud_rules)
        desk = PaymentDesk(
            book, admission, fraud, metrics, unscored_allow_max_minor=config.unscored_allow_max_minor,
            rules=rules, in_flight=in_flight,
        )  # fmt: skip
        desk.on_storage_failure = self._die
        policy = ScoringPolicy(config.scored_codes, config.unscored_allow_max_minor, rules)
        thread = ThreadPoolExecutor(1, "kibubu-features")
        transfers = TransferDesk(
            self._store, admission, fraud, metrics, policy, in_flight=in_flight, listed=book.listed, thread=thread
        )
        self._runners = [VoucherPayer(self._engine, self._store, book, desk).run()]
        if provider is not None:
            self._runners.append(AirtimeRunner(self._engine, self._store, book, admission, provider()).run())
        self._collect(lambda: admission.queue_length + transfers.queue_length, lambda: desk.queue_length)
        server = grpc.aio.server(options=server_options())
        services: Any = RoleChecks(server)  # stands for the server while services are added
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(
            LedgerServicer(self._store, admission, barrier, guard, self._pin_key, transfers), services
        )
        payments_pb2_grpc.add_PaymentsServiceServicer_to_server(
            PaymentsServicer(book, desk, barrier, guard, admission, self._pin_key), services
        )
        requests = PayRequestsServicer(self._store, book, admission, barrier, guard)
        payments_pb2_grpc.add_PayRequestsServiceServicer_to_server(requests, services)
        held = ReviewBook(self._store, self._tariffs, thresholds)
        review = ReviewServicer(
            held, admission, barrier, guard, book, desk, ReviewDesk(self._store, admission, thresholds),
            LabelBook(self._store, held),
        )  # fmt: skip
        review_pb2_grpc.add_ReviewServiceServicer_to_server(review, services)
        configuration = ConfigServicer(self._store, admission, barrier, guard, self._tariffs)
        config_pb2_grpc.add_ConfigServiceServicer_to_server(configuration, services)
        bulk = BulkServicer(BulkBook(self._store, book), book, desk, admission, barrier, guard)
        bulk_pb2_grpc.add_BulkServiceServicer_to_server(bulk, services)
        # A book of its own, since threads read the feed.
        reader = FeedReader(self._store, PaymentBook(self._store, self._tariffs, self._pin_key))
        self._feed = FeedServicer(self._store, reader, self._applied, self._engine, guard)
        feed_pb2_grpc.add_FeedServiceServicer_to_server(self._feed, services)
        self._add_operations(services, guard, admission)
        self._listen(server)
        return server, fraud

    def _collect(self, queued_transfers: Callable[[], int], queued_payments: Callable[[], int]) -> None:
        """What is counted elsewhere, and read when Prometheus asks."""
        self._registry.register(
            EngineCollector(
                self._engine.status,
                lambda: self._store.transfers_by_kind_and_outcome,
                lambda: self._store.accounts_total,
                queued_transfers,
                queued_payments,
            )
        )

    def _add_operations(self, services: Any, guard: Guard, admission: Admission) -> None:
        """Status and verification, health, reflection: what a node is operated by."""
        config = self._config
        admin_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminServicer(
                config,
                self._engine,
                self._store,
                guard,
                self._rate,
                lambda: admission.queue_length,
                self._scrubber,
                self._journal,
            ),
            services,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, services)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer(_service_names()), services
        )

    def _listen(self, server: grpc.aio.Server) -> None:
        config = self._config
        credentials = load_server_credentials(config.tls.ca, config.tls.cert, config.tls.key)
        if server.add_secure_port(config.api_address, credentials) == 0:
            raise OSError(f"listen.api: cannot listen on {config.api_address}")

    async def _watch(self) -> None:
        """Once a second: the rate for the status table, and health, which is SERVING while a leader is known."""
        while True:
            self._rate.sample()
            serving = bool(self._engine.status().leader_id)
            state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
            await self._health.set("", state)
            await asyncio.sleep(_RATE_SAMPLE_S)

    def serve_metrics(self) -> None:
        host, _, port = self._config.metrics_address.rpartition(":")
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self._registry.register(collector)
        start_http_server(int(port), host, registry=self._registry)


def _service_names() -> tuple[str, ...]:
    files = (ledger_pb2, payments_pb2, review_pb2, config_pb2, feed_pb2, bulk_pb2, admin_pb2)
    names = (service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values())
    return (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)


def run(config: NodeConfig) -> int:
    """Runs a node until SIGTERM; 0 = stopped as asked, 2 = wrong configuration or data folder."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config))
    except (
        FatalRaftError,
        KeyFileError,
        ConfigError,
        TariffError,
        ForeignDataError,
        RaftLogError,
        SnapshotError,
        DamagedFolderError,
        BrokenHistoryError,
        OSError,
    ) as error:
        print(f"kibubu node: {error}", file=sys.stderr)  # noqa: T201
        return 2


async def _run(config: NodeConfig) -> int:
    node = Node(config)
    warm_up()
    node.serve_metrics()
    rest_collector()
    await node.run()
    return 0
