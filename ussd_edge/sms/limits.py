"""Every maximum of the outbox, by name."""

from __future__ import annotations

WAITING_MAX = 20_000  # texts that are not sent yet; beyond it the feed is not read further
IN_FLIGHT_MAX = 32
TEXT_SEPTETS_MAX = 306  # two parts of 153
NAME_SEPTETS_MAX = 24
RETRY_S_MIN, RETRY_S_MAX = 1.0, 300.0
AGE_S_DEFAULT = 24 * 3_600  # a text that is older tells nobody anything new
IDLE_S_MAX = 1.0
GATEWAY_TIMEOUT_S = 10.0
FILE_BYTES_MAX = 16 << 20  # then it is set aside as FILE.1
FILE_TAIL_BYTES = 256 << 10  # of it that the browser's phone looks through
FILE_IDS_REMEMBERED_MAX = 50_000
SHOWN_MAX = 20
