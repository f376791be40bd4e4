"""Kafka: connections, the log, fetching records, announcing frames, and which lanes get a detection run.

It knows neither Dagster nor the ledger's format; `contracts.messages` interprets records.
"""
