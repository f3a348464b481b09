"""`python -m ussd_edge --config FILE`: the USSD edge, served by uvicorn (uvloop, httptools)."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import uvicorn
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, start_http_server

from kibubu_client import Client
from ussd_edge.app import UssdApp
from ussd_edge.config import ConfigError, EdgeConfig, load_config
from ussd_edge.limits import CONNECTIONS_MAX, LEDGER_DEADLINE_S
from ussd_edge.store import EmbeddedStore, RedisStore


def build_app(config: EdgeConfig, registry: CollectorRegistry) -> UssdApp:
    return UssdApp(
        lambda: Client(config.nodes, config.tls, deadline_s=LEDGER_DEADLINE_S),
        lambda: RedisStore(config.redis_url) if config.redis_url else EmbeddedStore(),
        config.settings,
        registry,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ussd_edge", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the edge's TOML file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        config = load_config(arguments.config)
        registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
        start_http_server(config.metrics_address[1], config.metrics_address[0], registry=registry)
    except (ConfigError, OSError) as error:
        print(f"kibubu edge: {error}", file=sys.stderr)  # noqa: T201
        return 2
    host, port = config.http_address
    uvicorn.run(
        build_app(config, registry),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,  # a request holds a PIN
        log_config=None,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
