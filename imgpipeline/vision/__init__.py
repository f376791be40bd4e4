"""From the bytes of an image to detections: decoding, quality, models, backends, detectors and drawing.

Nothing here knows Kafka, the ledger or Dagster.
"""
