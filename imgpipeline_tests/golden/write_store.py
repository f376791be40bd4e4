"""Writes a golden store with the release that runs it: `python -m imgpipeline_tests.golden.write_store store_v1`.

The result is `store_v1.tar.gz`, the folder of a store, and `store_v1.json`, what queries and the audit answer. A golden
store is written once, by the last release before its format changes, and never again.
"""

import json
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import cv2

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Frame, FrameStatus, Gap, GapReason, Outcome, make_frame_id
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.detect.work import FrameWork
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.build.summaries import SUMMARIES, build_summary
from imgpipeline.ledger import ChainWriter, DayIndex, Fingerprint, Provenance, find_end
from imgpipeline.ledger.bundles.making import bundle_ledger
from imgpipeline.objectstore import ImageReader, ObjectStore, open_store
from imgpipeline.redetect.attempt import Redetector
from imgpipeline.redetect.choice import load_chosen, parse_choice
from imgpipeline.redetect.comparison import build_comparison
from imgpipeline.redetect.run import redetect_day
from imgpipeline.reports.build import build_report
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.simulator import Scene
from imgpipeline_tests.golden.answers import CHAINS, DAYS, NOW, audit_golden, read_answers

_FOLDER = Path(__file__).parent
_REDETECTED = "demo@0.05"


def write_store(settings: Settings, store: ObjectStore) -> None:
    """Write two days in two partitions, with everything that a store can hold."""
    first, second = (RecordWriter(settings, store, chain) for chain in CHAINS)
    seen = first.write(announced(store, DAYS[0], "yard", range(4)))
    first.write([b"no JSON", _announcement(DAYS[0], "yard", 90, "images/missing.jpg")])
    lost = f"{CHAINS[0].topic}/0/5"
    first.write(announced(store, DAYS[0], "yard", [4]), replay_of=lost)
    dark = [
        replace(seen[0], status=FrameStatus.GATED, gate_reason="dark", detections=(), frame_number=50 + n,
                frame_id=make_frame_id("yard", seen[0].timestamp, 50 + n))
        for n in range(2)
    ]  # fmt: skip
    first.append([*dark, seen[1], Gap(0, 3, GapReason.MARKER)])
    second.write(announced(store, DAYS[0], "gate", range(10, 13)))
    second.write(announced(store, DAYS[1], "gate", range(20, 23)), day=DAYS[1])
    # A range of 10,000 offsets that has enough segments for a bundle, and that the chain has left.
    for _ in range(25):
        first.append([Gap(0, 400, GapReason.COMPACTED)])
    first.write(announced(store, DAYS[1], "yard", range(30, 33)), day=DAYS[1])
    assert bundle_ledger(store).bundles == 1
    for day in DAYS:
        rebuild_day(store, day, now=NOW)
        for name in SUMMARIES:
            build_summary(store, name, day, settings=settings, now=NOW)
    redetected = load_chosen(parse_choice(_REDETECTED, settings), settings)
    redetect_day(Redetector(settings, store, _REDETECTED, redetected, lambda: NOW, "golden"), DAYS[0])
    build_comparison(settings, store, DAYS[0], now=NOW)
    build_report(store, settings, DAYS[0], now=NOW)
    audit_golden(store)
    # Newer than the tables and the audit's position.
    second.write([*announced(store, DAYS[1], "gate", [23]), b"no JSON either"], day=DAYS[1])


class RecordWriter:
    """Writes one chain as a detection run does."""

    def __init__(self, settings: Settings, store: ObjectStore, chain: ChainId) -> None:
        """Begin at the chain's end."""
        detector = load_chosen(parse_choice("demo", settings), settings)
        self._work, self._chain = FrameWork(settings, ImageReader(store, settings), detector, lambda: NOW), chain
        self._to = ChainWriter(store, find_end(store, chain), DayIndex(store))

    def write(self, values: Sequence[bytes], *, day: date = DAYS[0], replay_of: str | None = None) -> list[Frame]:
        """Write one segment with the outcomes of these records, which Kafka has taken at noon of a day."""
        noon_ms = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)
        headers = (("replay_of", replay_of.encode()),) if replay_of else ()
        start = self._to.end.offset
        records = [
            KafkaRecord(self._chain.topic, self._chain.partition, offset, noon_ms, b"key", value, headers)
            for offset, value in enumerate(values, start)
        ]
        outcomes: list[Outcome] = [self._work.work(record) for record in records]
        self._put(outcomes, Fingerprint.of(records[-1]))
        return [outcome for outcome in outcomes if isinstance(outcome, Frame)]

    def append(self, outcomes: Sequence[Frame | Gap]) -> None:
        """Write one segment with these outcomes, at the offsets that come next."""
        at, placed = self._to.end.offset, list[Outcome]()
        for outcome in outcomes:
            if isinstance(outcome, Gap):
                length = outcome.end - outcome.start
                placed.append(Gap(at, at + length, outcome.reason))
                at += length
            else:
                placed.append(replace(outcome, offset=at))
                at += 1
        self._put(placed, Fingerprint(at - 1, int(NOW.timestamp() * 1000), "cd" * 32))

    def _put(self, outcomes: Sequence[Outcome], fingerprint: Fingerprint) -> None:
        detector = self._work.detector
        made = Provenance(detector.model_name, detector.model_sha256, "0123456789abcdef", "golden-run")
        writer_id = f"golden-{self._chain.partition}-{self._to.end.offset}"
        assert self._to.append(
            outcomes, provenance=made, writer_id=writer_id, fingerprint=fingerprint, created_at=NOW
        ), "another writer was faster"


def announced(store: ObjectStore, day: date, source: str, numbers: Sequence[int]) -> list[bytes]:
    """Store pictures of a drawn street and return their announcements."""
    values = []
    for number in numbers:
        path = f"images/{source}/{day}/{number:04d}.jpg"
        image, _ = Scene(3, frames=60).frame(number)
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])
        assert done
        store.put(path, bytes(data.tobytes()))
        values.append(_announcement(day, source, number, path))
    return values


def _announcement(day: date, source: str, number: int, path: str) -> bytes:
    time = datetime(day.year, day.month, day.day, 11, 59, tzinfo=UTC) + timedelta(seconds=5 * number)
    data = {"source": source, "image_path": path, "timestamp": time.isoformat(), "frame_number": number}
    return json.dumps({**data, "attributes": {"weather": "dry"}}).encode()


def main(name: str) -> None:
    """Write the store and its answers beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        settings = load_settings(store_url=path.as_uri())
        store = open_store(settings)
        write_store(settings, store)
        with tarfile.open(_FOLDER / f"{name}.tar.gz", "w:gz") as packed:
            packed.add(path, "store")
        answers = read_answers(store)
    (_FOLDER / f"{name}.json").write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
