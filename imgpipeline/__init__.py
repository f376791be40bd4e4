"""Counts what cameras see, from Kafka frames to DuckDB numbers, and proves that no frame was lost or counted twice.

`Lake` reads the results from notebooks and scripts; importing this package loads it only when it is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgpipeline.lake.query.lake import Lake as Lake

__version__ = "0.1.0"
__all__ = ["Lake", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Lake":
        from imgpipeline.lake.query.lake import Lake  # noqa: PLC0415 - loads DuckDB and pyarrow

        return Lake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
