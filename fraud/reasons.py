"""A feature as a reason that an analyst, or the person on the phone, understands."""

from __future__ import annotations

from collections.abc import Iterable

from node.ledger.features import FEATURE_NAMES

WORDS = {
    "amount_minor": "the amount itself",
    "kind": "this kind of payment",
    "hour_of_day": "the hour of the day",
    "hour_is_usual": "an hour at which the payer does not usually pay",
    "payer_age_h": "how young the payer's account is",
    "payee_age_h": "how young the payee's account is",
    "payee_kind": "the kind of the payee's account",
    "pin_age_h": "the PIN was changed not long ago",
    "share_of_available": "it takes a large share of what the payer has",
    "drained_share_1h": "with the last hour's payments it empties the account",
    "amount_to_mean": "the amount is unlike what the payer usually sends",
    "amount_to_largest": "it is larger than what the payer has ever sent",
    "s_since_out": "how soon it follows the payer's last payment",
    "s_since_in": "how soon it follows money that the payer received",
    "out_count_1h": "many payments within an hour",
    "out_sum_1h_minor": "much money sent within an hour",
    "out_count_1d": "many payments within a day",
    "out_sum_1d_minor": "much money sent within a day",
    "out_count_7d": "the payer's number of payments within a week",
    "out_sum_7d_minor": "the money that the payer sent within a week",
    "in_count_1h": "the payer received money often within an hour",
    "in_sum_1h_minor": "the payer received much within an hour",
    "in_count_1d": "the payer received money often within a day",
    "in_sum_1d_minor": "the money that the payer received within a day",
    "pass_through_1d": "the payer sends on what was just received",
    "amount_to_last_in": "the amount fits the money that was just received",
    "payee_is_new": "the payer has not paid this account lately",
    "new_payees_1d": "several new payees within a day",
    "payee_in_count_1d": "the payee receives often today",
    "payee_in_sum_1d_minor": "the payee receives much today",
    "payee_new_payers_1d": "many strangers pay the payee today",
    "payee_pass_through_1d": "the payee sends on what it receives",
    "payee_s_since_in": "how soon the payee receives again",
    "airtime_sum_1d_minor": "much airtime within a day",
    "amount_is_round": "how round the amount is",
    "payer_kind": "the kind of the payer's account",
    "payee_knows_payer": "the payee has had nothing to do with the payer lately",
    "new_payers_1d": "strangers paid the payer today",
    "payee_new_payer_share_1d": "who pays the payee today has not done so before",
    "payee_in_count_7d": "how often the payee received within a week",
    "payee_drained_share_1d": "the payee empties the account as money comes in",
    "payee_s_since_out": "how soon the payee sent money on",
    "amount_to_payee_mean_7d": "the amount is unlike what the payee usually receives",
    "amount_to_payee_last_in": "how the amount compares with what the payee received last",
    "rule_allow_list": "the allow-list lets it pass",
    "rule_hold_list": "the hold-list names payer or payee",
    "rule_refuse_list": "the refuse-list names payer or payee",
    "rule_pin_cool_down": "a large amount, and the PIN was reset within the cool-down",
    "rule_cap": "the amount is above the cap",
}


def in_words(reasons: Iterable[int]) -> list[str]:
    """reasons: feature number + 1, 0 = none, as the ledger keeps them."""
    names = (FEATURE_NAMES[number - 1] for number in reasons if 0 < number <= len(FEATURE_NAMES))
    return [WORDS.get(name, name.replace("_", " ")) for name in names]
