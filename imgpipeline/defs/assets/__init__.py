"""The assets, one module a layer: what the ledger says of a day, the day tables, the summaries."""
