"""Thins out the frames of a stream or video to a rate. It imports nothing, because every camera's process loads it."""


class RatePicker:
    """Chooses at most `fps` frames per second, evenly spaced on average; all frames if there is no limit."""

    def __init__(self, fps: float | None) -> None:
        self._period_s = 1 / fps if fps else 0.0
        self._due_s: float | None = None

    def takes(self, at_s: float) -> bool:
        """Returns whether to take the frame at this time of the stream; starts over if the time jumps."""
        period_s = self._period_s
        if not period_s:
            return True
        if self._due_s is None or abs(at_s - self._due_s) > 10 + period_s:
            self._due_s = at_s
        if at_s < self._due_s - 0.1 * period_s:
            return False
        self._due_s = (at_s if at_s > self._due_s + period_s else self._due_s) + period_s
        return True
