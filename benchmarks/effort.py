"""How much is measured: the whole, in about forty minutes on two cores, or a glance, in about four."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Effort:
    """Sizes and times of all benchmarks."""

    name: str
    """`full` or `quick`."""
    pictures: int
    """Different pictures of each size."""
    sizes: tuple[tuple[int, int], ...]
    """Widths and heights for the throughput."""
    all_networks: bool
    """Whether YOLOv4-tiny is measured beside YOLOX-nano."""
    contest_s: float
    """About how long one contender works at a time."""
    rounds: int
    """How often the bare loop (or the classic consumer) is measured; the pipeline once more."""
    steady_s: float
    """How long frames come steadily."""
    beside_s: float
    """About how long Dagster works at a backlog; the bare loop at most half a minute."""
    beside_rounds: int
    """How often Dagster works off a backlog; the bare loop once more."""
    pipeline_rounds: int
    """How often the whole pipeline of each checkout is measured where there are older ones."""
    cold_samples: int
    """How many frames find nothing running."""
    idle_s: float
    """How long the daemon is watched while nothing happens."""
    idle_minute_s: float
    """How long the processes of `dagster dev` are watched."""
    idle_runs: int
    """How many runs with nothing to do are launched, of each kind."""
    memory_messages: int
    """Backlog whose memory is watched."""
    ledger_segments: int
    """Segments that are put in sequence."""
    bundled_segments: tuple[int, ...]
    """Segments of five frames in the days that are read with and without bundles."""
    grown_segments: tuple[int, ...]
    """Segments of five frames in the days that are built segment by segment."""
    days_over: tuple[int, ...]
    """Days that are over, for calls that name no day."""
    day_partitions: int
    """Partitions of one day, for the same calls."""
    sensor_segments: int
    """Segments of the synthetic ledger."""
    batch_frames: int
    """Frames of the day that the batch side works on; growth is shown from a tenth of them to ten times as many."""
    batch_files: int
    """Documents that are read one a file."""
    batch_detections: int
    """Detections in one Parquet file, at the most."""
    batch_rounds: int
    """How often a contender of the batch side is measured where it takes seconds."""
    source_frames: int
    """Images that a source publishes at a time: of a video a quarter, of a bucket ten times as many."""
    source_rounds: int
    """How often a source and the plain loop beside it are measured."""
    cameras_s: float
    """How long sixteen cameras are ingested."""
    overload_s: float
    """How long a camera is too fast for the store."""
    viewer_days: int
    """Days of the store that the viewer shows."""
    viewer_frames: int
    """Frames on these days together."""
    viewer_rounds: int
    """How often the viewer is asked for each page."""
    sources: tuple[str, ...] = ()
    """Which parts of `sources` are measured; empty: all."""
    before: tuple[Path, ...] = ()
    """Folders of older checkouts, which some benchmarks measure as well."""


FULL = Effort(
    name="full",
    pictures=265,
    sizes=((640, 360), (1280, 720)),
    all_networks=True,
    contest_s=10.0,
    rounds=2,
    steady_s=60.0,
    beside_s=120.0,
    beside_rounds=2,
    pipeline_rounds=3,
    cold_samples=20,
    idle_s=20.0,
    idle_minute_s=60.0,
    idle_runs=3,
    memory_messages=100_000,
    ledger_segments=300,
    bundled_segments=(1_000, 4_000, 16_000),
    grown_segments=(1_000, 4_000, 16_000, 64_000),
    days_over=(10, 400),
    day_partitions=9_800,
    sensor_segments=1_000_000,
    batch_frames=1_000_000,
    batch_files=300,
    batch_detections=10_000_000,
    batch_rounds=3,
    source_frames=1_000,
    source_rounds=5,
    cameras_s=300.0,
    overload_s=120.0,
    viewer_days=30,
    viewer_frames=3_000_000,
    viewer_rounds=10,
)
QUICK = Effort(
    name="quick",
    pictures=60,
    sizes=((640, 360),),
    all_networks=False,
    contest_s=2.0,
    rounds=1,
    steady_s=10.0,
    beside_s=20.0,
    beside_rounds=1,
    pipeline_rounds=3,
    cold_samples=1,
    idle_s=4.0,
    idle_minute_s=20.0,
    idle_runs=1,
    memory_messages=4_000,
    ledger_segments=60,
    bundled_segments=(2_000,),
    grown_segments=(2_000,),
    days_over=(2, 6),
    day_partitions=50,
    sensor_segments=2_000,
    batch_frames=20_000,
    batch_files=20,
    batch_detections=200_000,
    batch_rounds=1,
    source_frames=300,
    source_rounds=3,
    cameras_s=20.0,
    overload_s=15.0,
    viewer_days=2,
    viewer_frames=60_000,
    viewer_rounds=4,
)
