"""`python -m ussd_edge.sms --config FILE`: the outbox. SIGTERM ends it; whatever was under way is sent by the next."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sqlite3
import sys
from pathlib import Path

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, start_http_server

from kibubu_client import Client, InvalidRequestError
from ussd_edge.catalogues import load_words
from ussd_edge.config import ConfigError
from ussd_edge.sms.book import Book, BookError
from ussd_edge.sms.config import SmsConfig, load_config
from ussd_edge.sms.outbox import Metrics, Outbox


async def serve(config: SmsConfig, book: Book, metrics: Metrics) -> None:
    gateway = config.make_gateway()
    async with Client(config.nodes, config.tls) as client:
        outbox = Outbox(client, book, gateway, load_words(), config.settings, metrics)
        running = asyncio.create_task(outbox.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            pass
        finally:
            await gateway.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ussd_edge.sms", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the outbox's TOML file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    try:
        config = load_config(arguments.config)
        book = Book(config.book_file)
        start_http_server(config.metrics_address[1], config.metrics_address[0], registry=registry)
    except (ConfigError, BookError, OSError) as error:
        print(f"kibubu sms: {error}", file=sys.stderr)  # noqa: T201
        return 2
    code = 0
    try:
        asyncio.run(serve(config, book, Metrics(registry)))
    except* (InvalidRequestError, sqlite3.Error, OSError) as errors:
        print(f"kibubu sms: {errors.exceptions[0]}", file=sys.stderr)  # noqa: T201
        code = 2
    finally:
        book.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
