"""Seeing: from the bytes of an image file to detections.

Owns decoding, picture quality, the model registry and its downloads, Darknet conversion, inference backends,
detectors, and drawing. Nothing here knows of Kafka, object stores, ledgers or Dagster.
"""
