"""Counts what cameras see, from Kafka frames to DuckDB numbers, and proves that no frame was lost or doubled."""

__version__ = "0.1.0"
