"""From a stored number back to the frames, offsets and segments behind it."""
