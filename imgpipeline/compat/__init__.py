"""Compatibility with other systems: their detections and metadata as imports, and the lines of classic Hadoop jobs."""
