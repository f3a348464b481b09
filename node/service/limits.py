"""Every named maximum of the service in one place: queues, batches, pages, texts."""

from __future__ import annotations

from node.ledger.records import BATCH_TRANSFERS_MAX

TRANSFERS_IN_CALL_MAX = BATCH_TRANSFERS_MAX
QUEUED_TRANSFERS_MAX = 64 * 1_024  # beyond it a call is answered RESOURCE_EXHAUSTED at once
QUEUED_COMMANDS_MAX = 16 * 1_024
QUEUED_PAYMENTS_MAX = 8 * 1_024
ENTRIES_IN_FLIGHT_MAX = 4  # proposed and not yet applied: more only delay what comes behind them
SMALL_ENTRY_MAX, SMALL_ENTRIES_IN_FLIGHT_MAX = 256, 2  # while no more than so many transfers and commands wait
TINY_ENTRY_MAX, CROWD_MIN, LINGER_S = 31, 4, 0.002  # so few wait so long after an entry of so many callers
SCORING_ROUNDS_MAX = 2  # raw transfers at the sidecar: one is scored while the next one's features are taken
SCORED_ROUNDS_IN_FLIGHT_MAX = SCORING_ROUNDS_MAX + ENTRIES_IN_FLIGHT_MAX  # until they are applied
COMMANDS_IN_CALL_MAX = 1_000
PAYMENTS_IN_CALL_MAX = 512
PAYMENTS_IN_SCORE_MAX = 1_024
WAITING_PER_ACCOUNT_MAX = 16  # payments of one payer that wait while one PIN try is being decided
LOOKUPS_IN_CALL_MAX = 1_000
STATEMENT_PAGE_MAX = 1_000
STATEMENT_PAGE_DEFAULT = 50
DOCUMENTS_PAGE_MAX = 1_000
DOCUMENTS_PAGE_DEFAULT = 100
STATEMENT_WALK_MAX = 10_000  # transfers that one call looks at on its way back in time
TRIAL_BALANCE_PAGE_BYTES_MAX = 32 << 20  # of the log, in one call
EXPORT_PAGE_BYTES_MAX = 1 << 20  # of one message of ExportLog; the last entry of it may go beyond
BULK_ROWS_MAX = 10_000  # of a batch
BULK_PAY_ROWS_MAX = 200  # in one call
BULK_SHOW_ROWS_MAX = 500
BULK_PROBLEMS_MAX = 20
BULK_LIST_MAX = 100
BULK_LIST_DEFAULT = 50
BULK_BATCHES_REMEMBERED_MAX = 16  # whose rows are in memory
FEED_EVENTS_IN_PAGE_MAX = 1_000
FEED_FOLLOWERS_MAX = 64  # of one node; each holds one page at most
FEED_HEARTBEAT_S = 2.0  # an empty page says that the node is there
FEED_LEADERLESS_S = 4.0  # a node that knows no leader for so long sends its followers to another
NARRATIVE_BYTES_MAX = 32
REFERENCE_BYTES_MAX = 20
ANALYST_BYTES_MAX = 20
REVIEW_COMMENT_BYTES_MAX = 500
REVIEW_NEIGHBOURS_MAX = 10  # of each side of a held payment, in the picture of who paid whom
REVIEW_NEIGHBOUR_HISTORY_MAX = 20
REVIEW_PAGE_MAX = 500
REVIEW_PAGE_DEFAULT = 50
RECENT_PAYMENTS_MAX = 10  # that a phone is shown
RECENT_WALK_MAX = 200  # transfers that are looked at for them
REVIEW_HISTORY_MAX = 60  # transfers of an account that an analyst is shown
NAME_BYTES_MAX = 64
OUTCOME_WAIT_S = 5.0  # then the outcome is reported as unknown
READ_WAIT_S = 2.0
NAMES_REMEMBERED_MAX = 65_536
HANDLES_REMEMBERED_MAX = 262_144  # of the payment book: about 50 MB
