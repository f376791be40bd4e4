"""A day as sites have it: several chains, frames announced again, replays, late verdicts, another threshold at noon.

Written by the real writer into real segments, with a stored picture for each frame. What is in it is found out by
`faults.invariant`, which reads the segments by zstandard and json alone.
"""

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import ChainId, image_key
from imgpipeline.contracts.outcomes import Frame, FrameStatus, Outcome, make_frame_id
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.samples import DAY, append, dead_letter, frame, gap, writer

NEXT = DAY + timedelta(days=1)
LABELS = ("car", "person", "dog", "dög", "traffic light", 'a "quoted" \\ label')
SOURCES = ("cam-1", "cam-2", "yard / north")
HOURS = (0, 11, 12)
CHAINS = (ChainId("frames", "id_one", 0), ChainId("frames", "id_one", 1), ChainId("frames", "id_two", 0),
          ChainId("older.frames", "id_one", 7))  # fmt: skip
_OUTCOMES_A_SEGMENT = 9


@dataclass
class BusyDay:
    """Writes the outcomes of a day in portions, so that tables can be built between them."""

    store: ObjectStore
    """The store."""
    seed: int = 5
    """The source of randomness."""
    frames: list[Frame] = field(default_factory=list)
    """The outcomes written so far."""

    def __post_init__(self) -> None:
        """Begins with nothing written."""
        self._random = random.Random(self.seed)  # noqa: S311 - a day to be drawn again, no secret
        self._writers = {chain: writer(self.store, chain) for chain in CHAINS}
        self._ends = dict.fromkeys(CHAINS, 0)

    def write(self, segments: int) -> None:
        """Append some segments to each chain."""
        for _ in range(segments):
            for chain in CHAINS:
                start = self._ends[chain]
                outcomes = [self._outcome(chain, start + n) for n in range(_OUTCOMES_A_SEGMENT - 2)]
                end = start + _OUTCOMES_A_SEGMENT
                outcomes.append(gap(end - 2, end))
                assert append(self._writers[chain], outcomes)
                self._ends[chain] = end

    def _outcome(self, chain: ChainId, offset: int) -> Outcome:
        drawn = self._random.random()
        if drawn < 0.05:
            return dead_letter(offset)
        made = self._again(self._random.choice(self.frames)) if drawn < 0.25 and self.frames else self._new()
        made = replace(made, topic=chain.topic, partition=chain.partition, offset=offset)
        self.frames.append(made)
        return made

    def _again(self, first: Frame) -> Frame:
        """A frame that was announced before: the same, or looked at this time, or by another model, or a replay."""
        changes: dict[str, Any] = self._random.choice([
            {},
            {"status": FrameStatus.PROCESSED, "gate_reason": None, "detections": self._found(first.timestamp)},
            {"status": FrameStatus.GATED, "gate_reason": "dark", "detections": ()},
            {"replay_of": "frames/0/3"},
        ])  # fmt: skip
        return replace(first, **changes)

    def _new(self) -> Frame:
        day, source, number = self._day(), self._random.choice(SOURCES), len(self.frames)
        second = self._random.choice(HOURS) * 3600 + self._random.randrange(3600)
        time = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=second, microseconds=number)
        path = image_key(source, day, f"{number}.jpg")
        self.store.put(path, b"a picture")
        is_gated = self._random.random() < 0.1
        return replace(
            frame(number, day, source),
            frame_id=make_frame_id(source, time, number),
            source_image_path=path,
            timestamp=time,
            processing_timestamp=time + timedelta(seconds=1.5),
            size_bytes=self._random.randrange(1, 300_000),
            confidence_threshold=_threshold(time),
            status=FrameStatus.GATED if is_gated else FrameStatus.PROCESSED,
            gate_reason="dark" if is_gated else None,
            detections=() if is_gated else self._found(time),
        )

    def _day(self) -> date:
        return NEXT if self._random.random() < 0.1 else DAY

    def _found(self, time: datetime) -> tuple[Detection, ...]:
        def one() -> Detection:
            place = self._random.randrange(len(LABELS))
            left, top, width, height = (round(self._random.uniform(1, 200), 2) for _ in range(4))
            return Detection(
                LABELS[place],
                place,
                round(self._random.uniform(_threshold(time) + 0.01, 1), 6),
                (left, top, width, height),
            )

        return tuple(one() for _ in range(self._random.randrange(4)))


def _threshold(time: datetime) -> float:
    """The detector's threshold was lowered at noon."""
    return 0.5 if time.hour < 12 else 0.25
