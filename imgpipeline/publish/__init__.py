"""Publishes results to Kafka: each exactly once for readers with `read_committed`, whatever dies at any moment."""
