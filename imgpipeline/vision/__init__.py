"""Turns the bytes of images into detections: decoding, quality, models, backends, detectors and drawing.

It does not depend on Kafka, the ledger or Dagster.
"""
