"""Damaged and closed chains: finding what is broken, putting segments in its place, and telling followers.

docs/repair.md explains how the modules work together. Reading Kafka and detecting again is in `detect.repair`.
"""
