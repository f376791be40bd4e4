"""Which frames of a video are wanted: every Nth, at most N a second, or at most N in all."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Which frames are wanted; without a value all of them. The first one always is, unless `count` is reached."""

    every: int = 1
    """Take every Nth frame, at least 1."""
    rate: float | None = None
    """At most this many frames a second of the video; None: no limit."""
    count: int | None = None
    """At most this many frames, spread evenly over the video; None: no limit."""

    def of(self, frames: int | None) -> "Chosen":
        """Returns the choice for a video with this many frames (None: not known)."""
        spread = max(round(frames / self.count), 1) if self.count and frames else 1
        return Chosen(self, frames, max(self.every, spread))


class Chosen:
    """The choice for one video; it remembers what it has taken."""

    def __init__(self, choice: FrameChoice, frames: int | None, every: int) -> None:
        """Starts at the beginning of a video."""
        self._choice = choice
        self._frames = frames
        self._every = every
        self._next_s = 0.0
        self._taken = 0

    def takes(self, number: int, offset_s: float) -> bool:
        """Returns whether a frame is wanted; called once for each frame, in order."""
        if number % self._every or (self._choice.count is not None and self._taken >= self._choice.count):
            return False
        if self._choice.rate:
            if offset_s < self._next_s - 1e-6:
                return False
            # From when it was due, so that 10 of 25 frames a second are 10; from now on after a longer pause.
            period_s = 1 / self._choice.rate
            self._next_s = max(self._next_s + period_s, offset_s + period_s / 2) if self._taken else offset_s + period_s
        self._taken += 1
        return True

    def missing_after(self, read: int, promised: int) -> int:
        """Returns how many wanted frames are missing of a video that promised more frames than were read."""
        if read >= promised:
            return 0
        if self._choice.rate and read:
            missing = round((promised - read) * self._taken / read)
        else:
            missing = len(range(-(-read // self._every) * self._every, promised, self._every))
        return missing if self._choice.count is None else min(missing, self._choice.count - self._taken)

    def expected(self, video_rate: float | None) -> int | None:
        """Returns how many frames will be taken; None if that is not known."""
        if not self._frames:
            return None
        wanted = -(-self._frames // self._every)
        if self._choice.rate and video_rate:
            wanted = min(wanted, round(self._frames * self._choice.rate / video_rate) or 1)
        return min(wanted, self._choice.count) if self._choice.count is not None else wanted
