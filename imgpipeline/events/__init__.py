"""Rules, and the events that they find in frames, detections and changes of the image.

`configuration` reads `rules.toml`. `evaluate` is pure, so any caller finds the same events in the same frames.
`frame_changes` and `day_events` are the stored tables.
"""
