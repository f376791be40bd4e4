"""Repairs of damaged chains: finds the damage, puts segments in its place, and tells followers.

docs/repair.md explains how the modules work together. `detect.ledger_repair` reads Kafka and detects again.
"""
