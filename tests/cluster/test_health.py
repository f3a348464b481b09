"""Waiting for a cluster: it ends when all is well, when a process has died, and when the time is over."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cluster.health import answers_http, listens, wait_healthy


def test_each_check_must_succeed_once() -> None:
    calls = {"slow": 0, "quick": 0}

    def check(name: str, after: int) -> bool:
        calls[name] += 1
        return calls[name] >= after

    wanted = {"slow": lambda: check("slow", 3), "quick": lambda: check("quick", 1)}
    assert wait_healthy(wanted, 10, lambda _: False) == {}
    assert calls == {"slow": 3, "quick": 1}


def test_a_process_that_has_ended_is_not_waited_for() -> None:
    wanted = {"n1": lambda: False, "n2": lambda: True}
    assert wait_healthy(wanted, 600, lambda name: name == "n1") == {"n1": "its process has ended"}


def test_the_wait_has_an_end() -> None:
    assert wait_healthy({"n1": lambda: False}, 0.01, lambda _: False) == {"n1": "not healthy after 0.01 s"}


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/good" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_http(server: str) -> None:
    assert answers_http(f"http://{server}/good")
    assert not answers_http(f"http://{server}/bad")
    assert not answers_http("http://127.0.0.1:1/good")
    assert not answers_http("no address")


def test_listens(server: str) -> None:
    assert listens(server)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert not listens(f"127.0.0.1:{taken.getsockname()[1]}")
