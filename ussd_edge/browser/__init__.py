"""A phone in the browser, for development: plain files that speak to the edge as a gateway would. Served only where the
configuration says so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs

from ussd_edge.sms.gateways.file_sink import newest_for

PATH = "/phone"
_FOLDER = Path(__file__).resolve().parent
_FILES = {
    PATH: ("phone.html", b"text/html; charset=utf-8"),
    f"{PATH}/": ("phone.html", b"text/html; charset=utf-8"),
    f"{PATH}/phone.css": ("phone.css", b"text/css; charset=utf-8"),
    f"{PATH}/phone.js": ("phone.js", b"text/javascript; charset=utf-8"),
    f"{PATH}/gateways.js": ("gateways.js", b"text/javascript; charset=utf-8"),
}
HEADERS = (
    (b"content-security-policy", b"default-src 'self'; img-src data:"),
    (b"cache-control", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
)


class BrowserPhone:
    """`answer` gives a file and its content type, None for a path that is not there. `sms_file` is the outbox's."""

    def __init__(self, service_code: str, gateways: Iterable[str], sms_file: Path | None = None) -> None:
        self._sms_file = sms_file
        settings = json.dumps({"serviceCode": service_code, "gateways": list(gateways)}).encode()
        self._answers = {path: ((_FOLDER / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._answers[f"{PATH}/settings.json"] = (settings, b"application/json")

    def answer(self, path: str, query: bytes = b"") -> tuple[bytes, bytes] | None:
        if path == f"{PATH}/sms.json" and self._sms_file is not None:
            msisdn = parse_qs(query.decode("ascii", "replace")).get("msisdn", [""])[0]
            return json.dumps(newest_for(self._sms_file, msisdn)).encode(), b"application/json"
        return self._answers.get(path)
