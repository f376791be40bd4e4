"""Tracks: follows objects across the frames of a source and counts unique objects."""
