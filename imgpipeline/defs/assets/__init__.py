"""The assets, one module per layer: the ledger's outcomes, the day tables, the summaries, reports and redetections."""
