"""The receiving end of node links. It lets in only a configured peer of this cluster whose certificate says so."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
from kibubu.raft.v1 import raft_pb2, raft_pb2_grpc

from node.consensus.frames import FRAME_BYTES_MAX, MalformedFrameError, decode_hello, encode_hello
from node.consensus.messages import Hello
from node.consensus.seams import ConsensusConfig, TlsFiles, TransportEvents
from node.storage.member import Life, Seen

SPIFFE_PREFIX = "spiffe://kibubu/node/"
OUTDATED = "outdated data folder"  # how this one refusal begins; the caller stops for good when it hears it
SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX + 64),
    ("grpc.max_send_message_length", 4_096),
    ("grpc.max_concurrent_streams", 8),  # of one connection; a peer needs one
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)


class LinkRefusedError(Exception):
    """Why a caller may not speak to this node; told to the caller and written to stderr."""


def node_of_certificate(auth_context: Mapping[str, bytes | Iterable[bytes]]) -> str:
    """The node id that a certificate proves, by its only URI name."""
    named = auth_context.get("peer_uri", ())
    uris = [named] if isinstance(named, bytes) else list(named)
    if len(uris) != 1:
        raise LinkRefusedError(f"certificate must have exactly one URI name, it has {len(uris)}")
    name = uris[0].decode(errors="replace")
    node_id = name.removeprefix(SPIFFE_PREFIX)
    if not name.startswith(SPIFFE_PREFIX) or not node_id or "/" in node_id:
        raise LinkRefusedError(f"certificate of {name} is not that of a node")
    return node_id


def check_hello(hello: Hello, certified_id: str, config: ConsensusConfig) -> None:
    if hello.cluster_id != config.cluster_id:
        raise LinkRefusedError(f"cluster {hello.cluster_id!r} is not this cluster, {config.cluster_id!r}")
    if hello.node_id != certified_id:
        raise LinkRefusedError(f"node {hello.node_id!r} shows the certificate of {certified_id!r}")
    if hello.node_id not in config.other_peers():
        raise LinkRefusedError(f"node {hello.node_id!r} is no peer of this node")
    if hello.target_id != config.node_id:
        raise LinkRefusedError(f"node {hello.node_id!r} looks for {hello.target_id!r}, this is {config.node_id!r}")


def check_life(hello: Hello, events: TransportEvents) -> None:
    seen = Seen(Life(hello.since, hello.starts), hello.incarnation)
    reason = events.introduced(hello.node_id, seen, voter=hello.voter)
    if reason:
        raise LinkRefusedError(f"{OUTDATED}: {reason}")


class LinkServer(raft_pb2_grpc.RaftServiceServicer):
    def __init__(self, config: ConsensusConfig, tls: TlsFiles) -> None:
        self._config = config
        self._events: TransportEvents | None = None
        self._lock = threading.Lock()
        self._newest: dict[str, tuple[int, int]] = {}  # peer -> incarnation, epoch of its current stream
        self._said: set[str] = set()
        workers = ThreadPoolExecutor(2 * len(config.peers) + 4, thread_name_prefix="link-server")
        self._server = grpc.server(workers, options=SERVER_OPTIONS)
        raft_pb2_grpc.add_RaftServiceServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(config.listen_address, _credentials(tls))

    def start(self, events: TransportEvents) -> None:
        self._events = events
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def Link(  # noqa: N802
        self, request_iterator: Iterator[raft_pb2.LinkFrame], context: grpc.ServicerContext
    ) -> Iterator[raft_pb2.LinkFrame]:
        events = self._events
        try:
            # The certificate comes first: a caller of another role must not hold a thread by keeping silent.
            certified_id = node_of_certificate(context.auth_context())
            hello = decode_hello(next(request_iterator, raft_pb2.LinkFrame()).frame)
            check_hello(hello, certified_id, self._config)
            if events is not None:
                check_life(hello, events)
            self._open(hello)
        except (LinkRefusedError, MalformedFrameError) as error:
            self._say(f"node link refused: {error}")
            context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        if events is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "this node is starting")
        yield raft_pb2.LinkFrame(frame=encode_hello(self._answer(hello)))
        for message in request_iterator:
            if self._newest.get(hello.node_id) != (hello.incarnation, hello.epoch):
                context.abort(grpc.StatusCode.ABORTED, "a newer stream of this peer has taken over")
            if not events.received(hello.node_id, message.frame):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "this node cannot take more now")

    def _open(self, hello: Hello) -> None:
        """A peer has one stream: the newest. Within one process epochs only grow, so an older one is a ghost."""
        with self._lock:
            incarnation, epoch = self._newest.get(hello.node_id, (0, 0))
            if hello.incarnation == incarnation and hello.epoch <= epoch:
                raise LinkRefusedError(f"stream {hello.epoch} of {hello.node_id!r} is older than {epoch}")
            self._newest[hello.node_id] = (hello.incarnation, hello.epoch)

    def _answer(self, hello: Hello) -> Hello:
        return Hello(hello.cluster_id, self._config.node_id, hello.node_id, hello.incarnation, hello.epoch)

    def _say(self, line: str) -> None:
        """Once per reason: a misconfigured peer calls again and again."""
        if line not in self._said and len(self._said) < 100:
            self._said.add(line)
            sys.stderr.write(line + "\n")


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    pair = (tls.key.read_bytes(), tls.cert.read_bytes())
    return grpc.ssl_server_credentials([pair], root_certificates=tls.ca.read_bytes(), require_client_auth=True)
