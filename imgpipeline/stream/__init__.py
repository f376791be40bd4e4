"""Kafka in and out: connections, what the log holds, fetching records, announcing frames, and lanes.

Owns everything that speaks to a broker. What a record means belongs to `contracts.messages`, what becomes of it to
`detect`. Knows neither Dagster nor the ledger's format.
"""
