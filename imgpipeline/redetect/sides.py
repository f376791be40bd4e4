"""The sides of a comparison: the results of detection runs and of redetections on a day.

Finds them and opens them in DuckDB, each in one version.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from imgpipeline.contracts.keys import REDETECTIONS, day_table_key, parse_day, parse_model_folder, redetection_key
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.lake.build.summary_inputs import Patience
from imgpipeline.lake.storage.engine import Engine, all_rows, disk_errors, quoted
from imgpipeline.lake.storage.manifest import (
    FOOTER_KEY,
    have_equal_ends,
    parse_footer,
    read_version,
    version_of_file,
)
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.settings import LIVE

_TABLES = ("frames", "detections")


@dataclass(frozen=True, slots=True)
class Side:
    """One model's result of a day, as the views `{view}_frames` and `{view}_found`."""

    name: str
    """`live`, or the choice, such as `demo@0.3`."""
    view: str
    """Prefix of the names of the views."""
    versions: tuple[str, ...]
    """Versions of its two objects."""


def sides_of(store: ObjectStore, day: date) -> list[str]:
    """Returns the names of the sides that can be compared on a day: `live`, then the models with results, sorted."""
    folders = store.list_folders(REDETECTIONS)
    models = sorted(model for model in map(parse_model_folder, folders) if model)
    return [LIVE, *(model for model in models if store.head(redetection_key(model, day, "detections")))]


def days_with_redetections(store: ObjectStore) -> dict[date, str]:
    """Returns the days with results of models, each with their e-tags; one listing for each model."""
    found: dict[date, str] = {}
    for folder in store.list_folders(REDETECTIONS):
        model = parse_model_folder(folder)
        for info in store.list_objects(f"{REDETECTIONS}/{folder}") if model else ():
            day = parse_day(info.key)
            if day and info.key in {redetection_key(model or "", day, table) for table in _TABLES}:
                found[day] = f"{found.get(day, '')} {info.e_tag}"
    return found


def versions_of(store: ObjectStore, day: date, names: Sequence[str]) -> dict[str, list[str]]:
    """Returns the versions of both objects of each side; the version of a missing object is empty."""
    found: dict[str, list[str]] = {}
    for name in names:
        stored = [read_version(store, _key(name, day, table)) for table in _TABLES]
        found[name] = [each.manifest if each else "" for each in stored]
    return found


def open_side(store: ObjectStore, engine: Engine, name: str, day: date, view: str) -> Side:
    """Opens one side.

    Args:
        store: The object store.
        engine: DuckDB with a folder.
        name: `live`, or a choice.
        day: UTC day.
        view: Prefix of the names of the views: `{view}_frames` has the processed frames, `{view}_found` their
            detections.

    Returns:
        The side with the opened versions.

    Raises:
        PermanentError: It does not exist, is not a Parquet file of this project.
        TransientError: Its two objects are from different builds for longer than a build takes.
    """
    patience = Patience()
    while True:
        paths = {table: engine.folder / f"{view}-{table}.parquet" for table in _TABLES}
        for table, path in paths.items():
            _fetch(store, engine, name, day, table, path)
        if _belong_together(name, day, paths):
            break
        try:
            patience.wait(name, day)
        except TransientError:
            raise TransientError(
                f"{name} of {day} cannot be compared yet: its frames and detections are from different builds; one is "
                "in progress or was killed.",
                next_step=_command(name, day),
            ) from None
    processed = "status = 'processed'" if name == LIVE else "outcome = 'processed'"
    frames = f"SELECT *, {_precision_of(name, paths['frames'])} AS computed_in FROM ({all_rows(paths['frames'])})"  # noqa: S608 - own names
    engine.run(f"CREATE VIEW {view}_frames AS {frames} WHERE {processed}")
    engine.run(f"CREATE VIEW {view}_found AS {all_rows(paths['detections'])}")
    versions = (version_of_file(path, _key(name, day, table)) for table, path in paths.items())
    return Side(name, view, tuple(versions))


def _precision_of(name: str, frames: Path) -> str:
    """Returns the SQL for the precision of a frame's model, NULL for 32-bit floats."""
    if name == LIVE:
        return 'detectors[1]."precision"'
    document = _document(frames)
    precision = json.loads(document).get("precision") if document else None
    return quoted(precision) if precision else "NULL"


def _key(name: str, day: date, table: str) -> str:
    return day_table_key(table, day) if name == LIVE else redetection_key(name, day, table)


def _fetch(store: ObjectStore, engine: Engine, name: str, day: date, table: str, path: Path) -> None:
    try:
        with disk_errors(engine.folder):
            fetch_table(store, _key(name, day, table), path)
    except ObjectMissingError:
        raise PermanentError(
            f"There is no {table} of {name} on {day} to compare.", next_step=_command(name, day)
        ) from None


def _command(name: str, day: date) -> str:
    if name == LIVE:
        return f"dagster asset materialize -m imgpipeline.definitions --select frames,detections --partition {day}"
    return f"imgpipeline redetect --model {name} --day {day}"


def _belong_together(name: str, day: date, paths: Mapping[str, Path]) -> bool:
    if name == LIVE:
        return have_equal_ends(parse_footer(path, _key(name, day, table)) for table, path in paths.items())
    documents = [_document(path) for path in paths.values()]
    return documents[0] is not None and documents[0] == documents[1]


def _document(path: Path) -> bytes | None:
    """Returns the manifest in the footer of a redetection's object."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - loads slowly; a detection run does not need it

    found: bytes | None = (pq.read_metadata(path).metadata or {}).get(FOOTER_KEY.encode())
    return found
