"""Draws the frames on which people count: by hashes of the population itself, so that nobody can choose them."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from types import MappingProxyType


def seed_of(day: date, source: str | None, population: Sequence[str]) -> str:
    """Returns the seed of a draw: a hash of the day, the source, and the frame ids in their order."""
    digest = hashlib.sha256(json.dumps([day.isoformat(), source]).encode())
    for frame_id in population:
        digest.update(json.dumps(frame_id).encode())
    return digest.hexdigest()


def run_bounds(frames: int, runs: int) -> list[tuple[int, int]]:
    """Divides a population into runs as equal as possible: one `start, stop` each."""
    return [(run * frames // runs, (run + 1) * frames // runs) for run in range(runs)]


def draw_runs(
    population: Sequence[str], samples: int, seed: str, taken: Mapping[int, AbstractSet[str]] = MappingProxyType({})
) -> list[str | None]:
    """Draws one frame at random from each of `samples` equal runs of a population.

    Args:
        population: Frame ids, ordered by time.
        taken: The frames that earlier draws took, by the index of their run.

    Returns:
        One frame id a run, in the order of the runs; None where a run has no frame left.
    """
    drawn: list[str | None] = []
    for run, (start, stop) in enumerate(run_bounds(len(population), samples)):
        left = [frame_id for frame_id in population[start:stop] if frame_id not in taken.get(run, ())]
        drawn.append(min(left, key=lambda frame_id: _hash("draw", seed, frame_id), default=None))
    return drawn


def asking_order(frame_ids: Collection[str], seed: str) -> list[str]:
    """Returns the frames in random order, so that the first answers are a simple random sample at any time."""
    return sorted(frame_ids, key=lambda frame_id: _hash("order", seed, frame_id))


def in_tenth(purpose: str, seed: str, frame_id: str) -> bool:
    """Whether a frame belongs to the random tenth of the frames that is chosen for a purpose."""
    return int(_hash(purpose, seed, frame_id), 16) % 10 == 0


def _hash(purpose: str, seed: str, frame_id: str) -> str:
    """The purpose is hashed too: which frames are blind, for example, must not depend on the order of asking."""
    return hashlib.sha256(json.dumps([purpose, seed, frame_id]).encode()).hexdigest()
