"""Texts to phones: what was committed becomes an SMS to payer and payee, at least once, whatever fails in between."""
