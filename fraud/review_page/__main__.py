"""`python -m fraud.review_page --config FILE`: the analysts' page, served by uvicorn (uvloop, httptools)."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import uvicorn
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, start_http_server

from fraud.review_page.app import ReviewApp
from fraud.review_page.config import ConfigError, load_config

CONNECTIONS_MAX = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fraud.review_page", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the page's TOML file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        config = load_config(arguments.config)
        registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
        start_http_server(config.metrics_address[1], config.metrics_address[0], registry=registry)
    except (ConfigError, OSError) as error:
        print(f"kibubu review: {error}", file=sys.stderr)  # noqa: T201
        return 2
    host, port = config.http_address
    uvicorn.run(
        ReviewApp(config, registry), host=host, port=port, loop="uvloop", http="httptools", lifespan="on",
        access_log=False, log_config=None, server_header=False, limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=30, timeout_graceful_shutdown=3,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
