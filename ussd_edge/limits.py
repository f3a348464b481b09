"""Every maximum of the edge, by name."""

from __future__ import annotations

# What a gateway may send.
BODY_BYTES_MAX = 64 * 1_024
QUERY_BYTES_MAX = 8 * 1_024
FIELDS_MAX = 40
SESSION_ID_CHARACTERS_MAX = 128
TEXT_CHARACTERS_MAX = 2_000  # of what a person typed; more becomes one input that the menu finds too long
TOKEN_CHARACTERS_MAX = 8_192  # of a gateway's ClientState

# What a session may hold.
INPUTS_MAX = 40
INPUT_CHARACTERS_MAX = 64

# What the edge keeps, and for how long.
SESSIONS_MAX = 200_000  # in the embedded store; beyond it the oldest is forgotten
SESSION_S_MAX = 300  # networks end a session after 120 to 180 seconds
RESUME_S_MAX = 600  # a dropped session can be gone on with for so long
LANGUAGE_S_MAX = 400 * 24 * 3_600  # a choice of language that the ledger could not take
LANGUAGE_REMEMBERED_S_MAX = 300  # what it has, none as well: another edge may have changed it
LANGUAGE_UNKNOWN_S_MAX = 30  # the operator's own language, where the ledger did not answer
REPLAY_MS_MAX = 1_000  # no person types the same number again this soon: it is the gateway's retry
REPLAY_CHARACTERS_MIN = 4

# How much one gateway and one handset may ask; a configuration may set others.
GATEWAY_STEPS_PER_SECOND_MAX = 2_000
HANDSET_STEPS_PER_MINUTE_MAX = 60
HANDSETS_MAX = 200_000  # whose rate is remembered

# How long the edge waits, well within the 10 to 15 seconds that gateways wait for it.
LEDGER_DEADLINE_S = 5.0
LANGUAGE_DEADLINE_S = 1.0
STORE_TIMEOUT_S = 0.5
CONNECTIONS_MAX = 2_000
STORE_CONNECTIONS_MAX = 50
