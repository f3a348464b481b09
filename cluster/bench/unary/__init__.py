"""Plain unary gRPC calls from another language: a small Node.js client, its packages pinned by npm's lock file and
installed on first use. Without node and npm this row of the table is left out."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from cluster.accounts import LEDGER_KES
from cluster.bench.load import Tally
from cluster.certificates import tls_paths
from cluster.config_files import OPERATOR
from cluster.layout import PROJECT_ROOT, Layout
from cluster.vocabulary import CODE_BENCH
from kibubu_client.leader import SERVER_NAME

FOLDER = Path(__file__).resolve().parent
PROTO = PROJECT_ROOT / "proto" / "kibubu" / "ledger" / "v1" / "ledger.proto"
ACCOUNTS_MAX = 5_000  # they travel in the command line
_ANSWER_BYTES_MAX = 1 << 20
_INSTALL_TIMEOUT_S = 300
_GRACE_S = 30.0


def ready(folder: Path = FOLDER) -> str:
    """Installs the packages when they are missing; the reason why the row is left out, or nothing."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not found: calls from another language are left out"
    stamp, lock = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
    if stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime:
        return ""
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"npm could not install the client's packages ({error}): calls from another language are left out"
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        return f"npm could not install the client's packages ({reason}): calls from another language are left out"
    return ""


class UnaryLoad:
    """One Node.js process with `clients` calls open; it serves all repeats."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self._address = address

    @classmethod
    async def start(cls, layout: Layout, address: str, accounts: list[int], clients: int) -> UnaryLoad:
        paths = tls_paths(layout.certificates, "operator", OPERATOR)
        options = {
            "proto": str(PROTO),
            "ca": str(paths.ca),
            "cert": str(paths.cert),
            "key": str(paths.key),
            "serverName": SERVER_NAME,
            "accounts": accounts[:ACCOUNTS_MAX],
            "ledger": LEDGER_KES,
            "code": CODE_BENCH,
            "clients": clients,
        }
        process = await asyncio.create_subprocess_exec(
            "node",
            str(FOLDER / "client.js"),
            json.dumps(options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_ANSWER_BYTES_MAX,
        )
        return cls(process, address)

    async def run(self, seconds: float) -> Tally:
        """Raises RuntimeError when the process has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the Node.js client has no pipes")
        stdin.write(f"{seconds} {self._address}\n".encode())
        line = await asyncio.wait_for(stdout.readline(), seconds + _GRACE_S)
        if not line:
            raise RuntimeError("the Node.js client ended; its reason is above")
        answer = json.loads(line)
        tally = Tally(int(answer["done"]), Counter({str(k): int(v) for k, v in answer["others"].items()}))
        tally.latencies.add_counts((int(bucket), int(count)) for bucket, count in answer["counts"])
        return tally

    async def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _GRACE_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
