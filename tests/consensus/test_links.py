"""Who may speak to a node: real gRPC over mutual TLS. Whoever may not is told why, and the engine hears nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from kibubu.raft.v1 import raft_pb2, raft_pb2_grpc

from node.consensus.frames import FRAME_BYTES_MAX, encode, encode_hello
from node.consensus.messages import Hello, TermHint
from node.consensus.seams import ConsensusConfig, TlsFiles
from node.consensus.transport import GrpcTransport, _Outbox
from node.storage.member import Life, Seen
from tests.consensus.certs import Authority

FRAME = encode(TermHint(1))


class Heard:
    """Stands for the engine."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, bytes]] = []
        self.connections: list[tuple[str, bool]] = []
        self.is_full = False
        self.life, self.refusal = Life(0, 1), ""
        self.reasons: list[str] = []
        self._change = threading.Condition()

    def connected(self, peer_id: str) -> None:
        self._note(lambda: self.connections.append((peer_id, True)))

    def disconnected(self, peer_id: str) -> None:
        self._note(lambda: self.connections.append((peer_id, False)))

    def introduction(self) -> tuple[Life, bool]:
        return self.life, True

    def introduced(self, peer_id: str, seen: Seen, *, voter: bool) -> str:
        return self.refusal if voter else ""

    def outdated(self, reason: str) -> None:
        self._note(lambda: self.reasons.append(reason))

    def received(self, peer_id: str, frame: bytes) -> bool:
        if self.is_full:
            return False
        self._note(lambda: self.frames.append((peer_id, frame)))
        return True

    def wait(self, condition: Callable[[Heard], bool]) -> None:
        with self._change:
            if not self._change.wait_for(lambda: condition(self), timeout=30):
                raise TimeoutError(f"{self.frames} {self.connections}")

    def _note(self, change: Callable[[], None]) -> None:
        with self._change:
            change()
            self._change.notify_all()


class Node:
    def __init__(self, node_id: str, tls: TlsFiles, peers: dict[str, str], cluster_id: str = "c") -> None:
        listen = peers.get(node_id, "127.0.0.1:0")
        self.heard = Heard()
        self.config = ConsensusConfig(node_id, cluster_id, peers, listen, tls)
        self.transport = GrpcTransport(self.config)
        self.address = f"127.0.0.1:{self.transport.port}"

    def start(self) -> None:
        self.transport.start(self.heard)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Iterator[Node]:
    """Node a; its peer b is played by the test."""
    node = Node("a", authority.issue("node", "a"), {"a": "127.0.0.1:0", "b": "127.0.0.1:1"})
    node.start()
    yield node
    node.transport.stop()


def call(server: Node, tls: TlsFiles | None, hello: Hello, *frames: bytes, ca: Path | None = None) -> str:
    """Open a stream, say hello, send frames; the status in which it ends, or "open"."""
    if tls is None:
        root = (ca or Path()).read_bytes()
        credentials = grpc.ssl_channel_credentials(root)
    else:
        pair = tls.key.read_bytes(), tls.cert.read_bytes()
        credentials = grpc.ssl_channel_credentials((ca or tls.ca).read_bytes(), *pair)
    options = [("grpc.ssl_target_name_override", "kibubu"), ("grpc.max_send_message_length", -1)]
    finish = threading.Event()

    def requests() -> Iterator[raft_pb2.LinkFrame]:
        for frame in (encode_hello(hello), *frames):
            yield raft_pb2.LinkFrame(frame=frame)
        finish.wait(30)

    with grpc.secure_channel(server.address, credentials, options) as channel:
        stream = raft_pb2_grpc.RaftServiceStub(channel).Link(requests(), timeout=20)
        try:
            next(stream)
            if not frames:
                return "open"
            next(stream)
            return "open"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        finally:
            finish.set()
            stream.cancel()


def hello(node: str = "b", cluster: str = "c", target: str = "a", epoch: int = 1) -> Hello:
    return Hello(cluster, node, target, 7, epoch)


def test_configured_peer_is_heard(server: Node, authority: Authority) -> None:
    tls = authority.issue("node", "b")
    assert call(server, tls, hello()) == "open"


@pytest.mark.parametrize("role", ["edge", "operator", "fraud", "prometheus"])
def test_certificate_of_another_role_is_refused(server: Node, authority: Authority, role: str) -> None:
    answer = call(server, authority.issue(role, "b"), hello(), FRAME)
    assert answer == f"PERMISSION_DENIED: certificate of spiffe://kibubu/{role}/b is not that of a node"
    assert not server.heard.frames


@pytest.mark.parametrize(
    ("certified", "said", "reason"),
    [
        ("b", hello(node="x"), "node 'x' shows the certificate of 'b'"),
        ("x", hello(node="b"), "node 'b' shows the certificate of 'x'"),
        ("x", hello(node="x"), "node 'x' is no peer of this node"),
        ("a", hello(node="a"), "node 'a' is no peer of this node"),
        ("b", hello(cluster="other"), "cluster 'other' is not this cluster, 'c'"),
        ("b", hello(target="z"), "node 'b' looks for 'z', this is 'a'"),
    ],
)
def test_wrong_name_or_cluster_is_refused(
    server: Node, authority: Authority, certified: str, said: Hello, reason: str
) -> None:
    tls = authority.issue("node", certified)
    server_tls = server.config.tls
    if certified == "a" and server_tls is not None:
        tls = server_tls
    assert call(server, tls, said, FRAME) == f"PERMISSION_DENIED: {reason}"
    assert not server.heard.frames


def test_certificate_of_another_authority_is_refused(server: Node, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    foreign = Authority(tmp_path / "foreign").issue("node", "b")
    assert call(server, foreign, hello(), FRAME, ca=authority.ca).startswith("UNAVAILABLE")
    assert not server.heard.frames


def test_no_certificate_is_refused(server: Node, authority: Authority) -> None:
    assert call(server, None, hello(), FRAME, ca=authority.ca).startswith("UNAVAILABLE")
    assert not server.heard.frames


def test_rubbish_instead_of_hello_is_refused(server: Node, authority: Authority) -> None:
    pair = authority.issue("node", "b")
    credentials = grpc.ssl_channel_credentials(pair.ca.read_bytes(), pair.key.read_bytes(), pair.cert.read_bytes())
    with grpc.secure_channel(server.address, credentials, [("grpc.ssl_target_name_override", "kibubu")]) as channel:
        stream = raft_pb2_grpc.RaftServiceStub(channel).Link(iter([raft_pb2.LinkFrame(frame=b"\x80\x04K\x01.")]))
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_older_stream_of_the_same_process_is_refused(server: Node, authority: Authority) -> None:
    tls = authority.issue("node", "b")
    assert call(server, tls, hello(epoch=5)) == "open"
    assert call(server, tls, hello(epoch=5)) == "PERMISSION_DENIED: stream 5 of 'b' is older than 5"
    assert call(server, tls, hello(epoch=6)) == "open"


def test_message_over_the_limit_is_refused(server: Node, authority: Authority) -> None:
    tls = authority.issue("node", "b")
    answer = call(server, tls, hello(), b"x" * (FRAME_BYTES_MAX + 100))
    assert answer.startswith("RESOURCE_EXHAUSTED")
    assert not server.heard.frames


def test_full_engine_ends_the_stream(server: Node, authority: Authority) -> None:
    server.heard.is_full = True
    answer = call(server, authority.issue("node", "b"), hello(), FRAME)
    assert answer == "RESOURCE_EXHAUSTED: this node cannot take more now"


def test_two_nodes_connect_send_in_order_and_connect_again(authority: Authority) -> None:
    tls = {node_id: authority.issue("node", node_id) for node_id in "ab"}
    first = Node("a", tls["a"], {"a": "127.0.0.1:0"})
    second = Node("b", tls["b"], {"a": first.address, "b": "127.0.0.1:0"})
    object.__setattr__(first.config, "peers", {"a": first.address, "b": second.address})
    first.start()
    second.start()
    second.heard.wait(lambda heard: heard.connections == [("a", True)])
    sent = [encode(TermHint(number)) for number in range(500)]
    for frame in sent:
        assert second.transport.send("a", frame)
    first.heard.wait(lambda heard: len(heard.frames) == 500)
    assert first.heard.frames == [("b", frame) for frame in sent]
    first.transport.stop()
    second.heard.wait(lambda heard: heard.connections[-1] == ("a", False))
    assert not second.transport.send("a", FRAME)
    again = Node("a", tls["a"], {"a": first.address, "b": second.address})
    again.start()
    second.heard.wait(lambda heard: heard.connections[-1] == ("a", True))
    assert second.transport.send("a", FRAME)
    again.heard.wait(lambda heard: heard.frames == [("b", FRAME)])
    again.transport.stop()
    second.transport.stop()


def test_node_with_an_older_data_folder_is_refused_and_hears_why(authority: Authority) -> None:
    tls = {node_id: authority.issue("node", node_id) for node_id in "ab"}
    first = Node("a", tls["a"], {"a": "127.0.0.1:0", "b": "127.0.0.1:1"})
    first.heard.refusal = "b has been here in a later life"
    first.start()
    second = Node("b", tls["b"], {"a": first.address, "b": "127.0.0.1:0"})
    second.start()
    second.heard.wait(lambda heard: bool(heard.reasons))
    assert second.heard.reasons[0] == "a says: outdated data folder: b has been here in a later life"
    assert not second.heard.connections
    for node in (first, second):
        node.transport.stop()


def test_renewed_links_introduce_the_node_again(authority: Authority) -> None:
    tls = {node_id: authority.issue("node", node_id) for node_id in "ab"}
    first = Node("a", tls["a"], {"a": "127.0.0.1:0", "b": "127.0.0.1:1"})
    first.start()
    second = Node("b", tls["b"], {"a": first.address, "b": "127.0.0.1:0"})
    second.start()
    second.heard.wait(lambda heard: heard.connections == [("a", True)])
    second.transport.renew()
    second.heard.wait(lambda heard: heard.connections == [("a", True), ("a", False), ("a", True)])
    for node in (first, second):
        node.transport.stop()


def test_node_of_another_cluster_never_connects(server: Node, authority: Authority) -> None:
    tls = authority.issue("node", "b")
    stranger = Node("b", tls, {"a": server.address, "b": "127.0.0.1:0"}, cluster_id="other")
    stranger.start()
    time.sleep(0.3)
    assert not stranger.heard.connections
    stranger.transport.stop()


def test_send_queue_is_bounded() -> None:
    outbox = _Outbox(100)
    assert outbox.put(b"x" * 60)
    assert outbox.put(b"x" * 40)
    assert not outbox.put(b"x")
    drained = outbox.drain(b"hello")
    assert [next(drained).frame[:5] for _ in range(2)] == [b"hello", b"xxxxx"]
    assert outbox.put(b"x" * 60)
    outbox.close()
    assert not outbox.put(b"x")
    assert next(drained, None) is None
