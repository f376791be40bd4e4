"""Kafka: connections, logs, fetching and sending records, and the decision which lanes get a detection run.

The format of records is defined in `contracts.messages`.
"""
