"""gRPC links between nodes: one ordered stream for each direction of a pair, over mutual TLS.

The caller of a stream sends, the callee only says hello; so no bytes that steer the log ever come from a server whose
certificate was not checked by name. Send queues are bounded in bytes: a full one is thrown away and the link made anew.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
from kibubu.raft.v1 import raft_pb2, raft_pb2_grpc

from node.consensus.frames import FRAME_BYTES_MAX, MalformedFrameError, decode_hello, encode_hello
from node.consensus.link_server import OUTDATED, LinkServer
from node.consensus.messages import Hello
from node.consensus.seams import ConsensusConfig, TlsFiles, TransportEvents

RETRY_MIN_S, RETRY_MAX_S = 0.05, 0.5
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", FRAME_BYTES_MAX + 64),
    ("grpc.max_receive_message_length", 4_096),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


class GrpcTransport:
    """Implements seams.PeerTransport."""

    def __init__(self, config: ConsensusConfig) -> None:
        if config.tls is None:
            raise ValueError("node links need TLS files")
        self._config, self._tls = config, config.tls
        self._incarnation = random.SystemRandom().getrandbits(64)
        self._server = LinkServer(config, self._tls)
        self._links: dict[str, _Link] = {}

    @property
    def port(self) -> int:
        """Where this node listens; bound as soon as the transport exists."""
        return self._server.port

    def start(self, events: TransportEvents) -> None:
        self._server.start(events)
        for peer, address in self._config.other_peers().items():
            hello = Hello(self._config.cluster_id, self._config.node_id, peer, self._incarnation, 0)
            self._links[peer] = _Link(self._config, self._tls, address, hello, events)
        for link in self._links.values():
            link.start()

    def send(self, peer_id: str, frame: bytes) -> bool:
        return self._links[peer_id].send(frame)

    def renew(self) -> None:
        for link in self._links.values():
            link.renew()

    def stop(self) -> None:
        for link in self._links.values():
            link.close()
        self._server.stop()


class _Outbox:
    """Frames of one stream, from the engine's thread to gRPC's."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._frames: deque[bytes] = deque()
        self._change = threading.Condition()
        self._closed = False

    def put(self, frame: bytes) -> bool:
        with self._change:
            if self._closed or self._bytes + len(frame) > self._bytes_max:
                return False
            self._frames.append(frame)
            self._bytes += len(frame)
            self._change.notify()
            return True

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._frames.clear()
            self._change.notify_all()

    def drain(self, hello: bytes) -> Iterator[raft_pb2.LinkFrame]:
        yield raft_pb2.LinkFrame(frame=hello)
        while True:
            with self._change:
                while not self._frames and not self._closed:
                    self._change.wait()
                if self._closed:
                    return
                frame = self._frames.popleft()
                self._bytes -= len(frame)
            yield raft_pb2.LinkFrame(frame=frame)


class _Link:
    """The sending stream to one peer, made anew for as long as the node runs."""

    def __init__(
        self, config: ConsensusConfig, tls: TlsFiles, address: str, hello: Hello, events: TransportEvents
    ) -> None:
        self._config, self._hello, self._events = config, hello, events
        self._peer = hello.target_id
        options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", config.tls_server_name))
        self._channel = grpc.secure_channel(address, _credentials(tls), options)
        self._stub = raft_pb2_grpc.RaftServiceStub(self._channel)
        self._outbox: _Outbox | None = None  # None = not connected
        self._call: grpc.Call | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"link-{self._peer}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, frame: bytes) -> bool:
        outbox = self._outbox
        if outbox is None:
            return False
        if outbox.put(frame):
            return True
        self.renew()  # the peer does not keep up
        return False

    def renew(self) -> None:
        """Start over with a new stream; what waits is dropped."""
        outbox, call = self._outbox, self._call
        if outbox is not None and call is not None:
            outbox.close()
            call.cancel()

    def close(self) -> None:
        self._stopping.set()
        call = self._call
        if call is not None:
            call.cancel()
        self._channel.close()
        self._thread.join()

    def _run(self) -> None:
        epoch, pause_s = 0, RETRY_MIN_S
        while not self._stopping.is_set():
            epoch += 1
            connected = self._connect_once(epoch)
            pause_s = RETRY_MIN_S if connected else min(pause_s * 2, RETRY_MAX_S)
            self._stopping.wait(pause_s)

    def _connect_once(self, epoch: int) -> bool:
        """Runs until the stream ends; True when it had been accepted."""
        hello = self._hello
        life, voter = self._events.introduction()
        mine = replace(hello, epoch=epoch, since=life.since, starts=life.starts, voter=voter)
        outbox = _Outbox(self._config.send_queue_bytes_max)
        connected = False
        try:
            call = self._stub.Link(outbox.drain(encode_hello(mine)))
            self._call = call
            if self._stopping.is_set():
                call.cancel()
            answer = decode_hello(next(call).frame)
            if (answer.cluster_id, answer.node_id) == (hello.cluster_id, self._peer):
                connected = True
                self._outbox = outbox
                self._events.connected(self._peer)
                ended = threading.Event()  # not by reading on: a reader wakes whenever a frame has been sent
                if call.add_callback(ended.set):
                    ended.wait()
                self._heed(call)
        except grpc.RpcError as error:
            self._heed(error)
        except (MalformedFrameError, StopIteration, ValueError):
            pass  # whatever answers there is no node of this cluster
        finally:
            self._outbox = None
            outbox.close()
            if self._call is not None:
                self._call.cancel()
            if connected:
                self._events.disconnected(self._peer)
        return connected

    def _heed(self, end: object) -> None:
        """The peer is away, or refuses us: its log says why. One reason ends this node."""
        if not isinstance(end, grpc.Call) or end.code() is not grpc.StatusCode.PERMISSION_DENIED:
            return
        if str(end.details()).startswith(OUTDATED):
            self._events.outdated(f"{self._peer} says: {end.details()}")


def _credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    read = Path.read_bytes
    return grpc.ssl_channel_credentials(read(tls.ca), private_key=read(tls.key), certificate_chain=read(tls.cert))
