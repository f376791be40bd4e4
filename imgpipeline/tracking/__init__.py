"""Tracks: objects followed across the frames of a source, and how many different ones there were."""
