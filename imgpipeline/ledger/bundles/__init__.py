"""Bundles: read-only copies of all segments of an offset range, each stored as one object.

A busy partition writes one segment per second, so reading a day costs one request per second of data. With a bundle it
costs a few requests per 10,000 offsets. Segments remain the source of truth: writers and the search for ends never
read a bundle, and a reader that finds none, or a damaged one, reads the segments. docs/decisions/0007-bundles.md
explains why a bundle can never show outcomes that a repair has replaced.
"""
