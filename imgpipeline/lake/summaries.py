"""Daily summaries: one `.sql` file each, over one day's detections.

Owns the registry of summaries and building them. It promises that a summary names the version of `detections` that it
was made of and the very query that made it, so that `audit` can make it again; and that it never goes backwards. A new
summary is one file in `sql/` and one entry in `SUMMARIES`; its columns belong into `tables`.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from importlib import resources

from imgpipeline.contracts.keys import ChainId, day_table_key, summary_key
from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.lake.day_tables import replace_whole, write_parquet
from imgpipeline.lake.engine import Engine, all_rows, disk_errors, open_engine
from imgpipeline.lake.manifest import Manifest, parse_footer, read_stored
from imgpipeline.lake.tables import DETECTIONS, LABEL_COUNTS, SCHEMA_VERSION, Table
from imgpipeline.objectstore import Fetched, ObjectMissingError, ObjectStore

_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Summary:
    """One registered summary."""

    table: Table
    """Its columns; its name is the summary's and, with `.sql`, the file's."""

    @property
    def name(self) -> str:
        """Its name in keys, commands and SQL."""
        return self.table.name

    @property
    def sql(self) -> str:
        """The query: reads the table `detections`, without a final semicolon."""
        text = resources.files("imgpipeline.lake").joinpath("sql", f"{self.name}.sql").read_text(encoding="utf-8")
        return text.strip()


SUMMARIES: Mapping[str, Summary] = {LABEL_COUNTS.name: Summary(LABEL_COUNTS)}
"""All summaries by name."""


@dataclass(frozen=True, slots=True)
class SummaryBuild:
    """How a summary was built, or that there was nothing to do."""

    name: str
    """The summary."""
    day: date
    """UTC day."""
    skipped: bool
    """Whether the stored summary was made of these detections already."""
    rows: int
    """Its rows."""
    size_bytes: int
    """Size of its object."""
    made_of: str
    """Version (e-tag) of the detections it was made of."""
    ends: Mapping[ChainId, int]
    """Up to which end each chain is covered: those of the detections."""
    built_at: datetime
    """When the stored summary was made, UTC."""
    duration_s: float
    """How long this call took, in seconds."""


def build_summary(store: ObjectStore, name: str, day: date, *, force: bool = False, now: datetime) -> SummaryBuild:
    """Brings a day's summary up to its detections.

    Args:
        store: The object store.
        name: A key of `SUMMARIES`.
        day: UTC day.
        force: Build again also where nothing is new.
        now: What the manifest says as the time of building.

    Returns:
        What is stored now.

    Raises:
        ConfigurationError: There is no such summary.
        PermanentError: The day has no detections yet, or a stored object is no Parquet file of this project.
        TransientError: The store does not answer, or other builds were faster time and again.
    """
    began_s = time.perf_counter()
    summary = find_summary(name)
    made_by = sha256(repr((SCHEMA_VERSION, summary.sql)).encode()).hexdigest()[:16]
    key = summary_key(name, day)
    for _ in range(_ATTEMPTS):
        # The summary's version first: then the detections read after it are never older than those it was made of.
        before = read_stored(store, key)
        source = read_stored(store, day_table_key(DETECTIONS.name, day))
        if source is None:
            raise _nothing_to_read(name, day)
        if before and not force and (before.manifest.made_of, before.manifest.made_by) == (source.e_tag, made_by):
            return _report(before.manifest, before.size_bytes, began_s, skipped=True)
        manifest, data = make_summary(summary.sql, fetch_detections(store, day), name, day, made_by=made_by, now=now)
        if replace_whole(store, key, data, before):
            return _report(manifest, len(data), began_s, skipped=False)
    raise TransientError(f"{_ATTEMPTS} builds of {name} of {day} were overtaken by others; the summary is theirs.")


def find_summary(name: str) -> Summary:
    """Returns a registered summary; raises ConfigurationError where there is none of that name."""
    try:
        return SUMMARIES[name]
    except KeyError:
        raise ConfigurationError(
            f"There is no summary {name!r}.", next_step=f"take one of: {', '.join(sorted(SUMMARIES))}"
        ) from None


def fetch_detections(store: ObjectStore, day: date) -> Fetched:
    """Returns the detections of a day with their version.

    Raises:
        PermanentError: The day has none.
    """
    try:
        return store.fetch(day_table_key(DETECTIONS.name, day))
    except ObjectMissingError:
        raise _nothing_to_read("a summary", day) from None


def make_summary(
    sql: str, detections: Fetched, name: str, day: date, *, made_by: str, now: datetime
) -> tuple[Manifest, bytes]:
    """Makes a summary out of one version of a day's detections; nothing is put.

    Args:
        sql: The query.
        detections: A day's Parquet file with its version.
        name: The summary's name.
        day: UTC day.
        made_by: Hash of what makes it.
        now: What the manifest says as the time of building.

    Returns:
        The manifest, and the Parquet file.
    """
    source = parse_footer(detections.data, day_table_key(DETECTIONS.name, day))
    with detections_engine(detections.data, day) as engine:
        rows = engine.value(f"SELECT count(*) FROM ({sql}\n)")  # noqa: S608 - a registered query
        manifest = Manifest(
            name,
            day,
            SCHEMA_VERSION,
            made_by,
            source.ends,
            rows,
            built_at=now,
            made_of=detections.e_tag,
            sql=sql,
        )
        without_day = f"SELECT * EXCLUDE (day) FROM ({sql}\n)"  # noqa: S608 - a registered query
        return manifest, write_parquet(engine, without_day, manifest)


@contextmanager
def detections_engine(data: bytes, day: date) -> Iterator[Engine]:
    """Opens DuckDB with a day's Parquet file of detections as the table `detections`."""
    with open_engine() as engine:
        path = engine.folder / "detections-read.parquet"
        with disk_errors(engine.folder):
            path.write_bytes(data)
        engine.run(f"CREATE VIEW detections AS {all_rows(path, day=day)}")
        yield engine


def _nothing_to_read(name: str, day: date) -> PermanentError:
    return PermanentError(
        f"{name} of {day} cannot be made: the day has no table `detections` yet.",
        next_step=f"run `dagster asset materialize --select frames,detections --partition {day}`",
    )


def _report(manifest: Manifest, size_bytes: int, began_s: float, *, skipped: bool) -> SummaryBuild:
    return SummaryBuild(
        name=manifest.table,
        day=manifest.day,
        skipped=skipped,
        rows=manifest.rows,
        size_bytes=size_bytes,
        made_of=manifest.made_of,
        ends=manifest.ends,
        built_at=manifest.built_at,
        duration_s=time.perf_counter() - began_s,
    )
