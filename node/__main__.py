"""`python -m node --config FILE`: one ledger node."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from node.process import keep_memory, read_calls_where_they_are_taken
from node.service.config import ConfigError, load_config


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m node", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the node's TOML file")
    arguments = parser.parse_args()
    keep_memory()
    read_calls_where_they_are_taken()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        config = load_config(arguments.config)
    except ConfigError as error:
        print(f"kibubu node: {error}", file=sys.stderr)  # noqa: T201
        return 2
    # Imported late: a wrong configuration is said at once, not after the kernels are loaded.
    from node.wiring import run

    return run(config)


if __name__ == "__main__":
    sys.exit(main())
