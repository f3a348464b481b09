"""The analysts' page: a small web server over ReviewService, for a browser on the same machine or behind a TLS proxy.

No script runs in it; pictures are SVG made here. It holds no data: views ask the ledger, verdicts go there.
"""
