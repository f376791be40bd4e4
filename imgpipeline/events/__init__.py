"""Rules, and the events that they find in frames, detections and image changes.

`configuration` reads `rules.toml`. `evaluate` is pure, so every caller finds the same events in the same frames.
`rule_tables` and `frame_changes` build the stored tables.
"""
