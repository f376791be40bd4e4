"""Sources of frames, and the sessions that store their images and announce them.

Start with `protocol` (what a source is), `ingest` and `session`. `stream` and `detect` process the announced frames.
"""
