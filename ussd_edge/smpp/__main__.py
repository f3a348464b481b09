"""`python -m ussd_edge.smpp --config FILE`: USSD over SMPP, passed to the edge. SIGTERM unbinds and ends it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server

from ussd_edge.config import ConfigError
from ussd_edge.smpp.bridge import Bridge, BridgeMetrics
from ussd_edge.smpp.config import BridgeConfig, load_config


async def serve(config: BridgeConfig, metrics: BridgeMetrics) -> None:
    bridge = Bridge(config.link, config.edge_url, config.secret, metrics)
    running = asyncio.create_task(bridge.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        pass
    finally:
        await bridge.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ussd_edge.smpp", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the bridge's TOML file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    registry = CollectorRegistry()
    try:
        config = load_config(arguments.config)
        start_http_server(config.metrics_address[1], config.metrics_address[0], registry=registry)
    except (ConfigError, OSError) as error:
        print(f"kibubu smpp: {error}", file=sys.stderr)  # noqa: T201
        return 2
    asyncio.run(serve(config, BridgeMetrics(registry)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
