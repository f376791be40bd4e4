"""Checks the arguments of `Lake` and converts its results: stable column types, time zones, DataFrames."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.contracts.times import check_timezone
from imgpipeline.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    import pandas as pd

Names = str | Sequence[str]
"""One name, or several."""


def read_names(given: Names | None) -> tuple[str, ...]:
    """Returns one name or several as a tuple; empty for None."""
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def read_status(given: str | None) -> FrameStatus | None:
    """Returns a frame's status."""
    if given is not None and given not in set(FrameStatus):
        raise UsageError(f"status is {given!r}.", next_step=f"give one of {', '.join(FrameStatus)}")
    return None if given is None else FrameStatus(given)


def read_limit(given: int | None) -> int | None:
    """Returns the most rows to return; None: all."""
    if given is not None and given < 1:
        raise UsageError(f"limit is {given}.", next_step="give a number from 1, or None for all")
    return given


def read_hour(given: int | None) -> int | None:
    """Returns an hour of the day; None: the whole day."""
    if given is not None and not 0 <= given <= 23:
        raise UsageError(f"hour is {given}.", next_step="give an hour from 0 to 23")
    return given


def read_timezone(given: str) -> str:
    """Returns the name of a time zone."""
    try:
        return check_timezone(given)
    except ValueError as error:
        raise UsageError(f"timezone: {error}.", next_step="give an IANA name such as Asia/Kolkata") from None


def check_folder(store_url: str) -> None:
    """Raises ConfigurationError if a folder does not exist, since a mistyped name is not an empty store."""
    parts = urlsplit(store_url)
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        raise ConfigurationError(
            f"There is no store at {store_url}.",
            next_step="give the URL or folder of a store to Lake.open(), or set IMGPIPELINE_STORE_URL",
        )


_HUGE = pa.decimal128(38, 0)


def distinct_names(columns: Sequence[str]) -> list[str]:
    """Returns column names that are unique as keys: `n, n` becomes `n, n_1`."""
    names: list[str] = []
    for column in columns:
        candidates = (column if number == 0 else f"{column}_{number}" for number in count())
        names.append(next(name for name in candidates if name not in names))
    return names


def tidy(table: pa.Table) -> pa.Table:
    """Makes column names unique and whole numbers int64.

    DuckDB's `sum` of whole numbers is a HUGEINT, which Arrow shows as a decimal. Columns that do not fit int64 stay so.
    """
    table = table.rename_columns(distinct_names(table.column_names))
    for place, field in enumerate(table.schema):
        if field.type == _HUGE:
            try:
                column = table.column(place).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(place, field.name, column)
    return table


def in_timezone(table: pa.Table, name: str) -> pa.Table:
    """Returns the table with the same instants shown in a time zone."""
    fields = [
        pa.field(field.name, pa.timestamp(field.type.unit, tz=name)) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def to_pandas(table: pa.Table) -> "pd.DataFrame":
    """Returns a DataFrame whose types do not depend on the rows.

    Whole numbers are nullable (`Int64`), days are `datetime64` without a time zone, times have one, and maps are dicts.
    """
    import pandas as pd  # noqa: PLC0415 - loads slowly, and commands do not need it

    kinds: dict[Any, Any] = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    frame: pd.DataFrame = table.to_pandas(types_mapper=kinds.get, date_as_object=False, maps_as_pydicts="strict")
    return frame
