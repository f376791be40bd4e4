"""CSV files of detections, and readers of the chain for comparison."""

import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Outcome
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.samples import check_ledger, stored_segments

HEADER = "timestamp,detected_label,confidence"


def csv_lines(count: int, seed: int = 1) -> list[str]:
    """Return a header and rows over somewhat more than a day in January 2026."""
    chance = random.Random(seed)  # noqa: S311 - a sample
    time = datetime(2026, 1, 5)  # noqa: DTZ001 - as classic consumers write it
    lines = [HEADER]
    for _ in range(count):
        time += timedelta(seconds=chance.uniform(0, 2 * 100_000 / max(count, 1)))
        label, confidence = chance.choice(["car", "person", "dog"]), chance.uniform(0.3, 1)
        lines.append(f"{time.isoformat(sep=' ', timespec='milliseconds')},{label},{confidence:.4f}")
    return lines


def write_csv(path: Path, lines: Iterable[str]) -> Path:
    """Write lines as a CSV file."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def held(store: ObjectStore, chain: ChainId) -> list[Outcome]:
    """Return all outcomes of a chain in their order, having checked that each offset has one."""
    check_ledger(store, chain)
    return [outcome for segment in stored_segments(store, chain) for outcome in segment.outcomes()]


def frames_of(outcomes: Iterable[Outcome]) -> list[Frame]:
    """Return the frames among outcomes."""
    return [outcome for outcome in outcomes if isinstance(outcome, Frame)]


def letters_of(outcomes: Iterable[Outcome]) -> list[DeadLetter]:
    """Return the dead letters among outcomes."""
    return [outcome for outcome in outcomes if isinstance(outcome, DeadLetter)]
