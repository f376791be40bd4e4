"""Arrow tables with stable types, and their conversion to pandas."""

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

_HUGE = pa.decimal128(38, 0)


def distinct_names(columns: Sequence[str]) -> list[str]:
    """Returns column names of which none is lost as a key: `n, n` becomes `n, n_1`."""
    names: list[str] = []
    for column in columns:
        candidates = (column if number == 0 else f"{column}_{number}" for number in count())
        names.append(next(name for name in candidates if name not in names))
    return names


def tidy(table: pa.Table) -> pa.Table:
    """Gives each column its own name, and whole numbers the type int64.

    DuckDB's `sum` of whole numbers is a HUGEINT, which Arrow shows as a decimal; what does not fit stays one.
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

    Whole numbers are nullable (`Int64`), days are `datetime64` without a time zone, instants have one, maps are dicts.
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
