"""Opens a lake for commands."""

import pyarrow as pa

from imgpipeline.lake.query.lake import Lake
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings


def open_arrow_lake(settings: Settings) -> Lake[pa.Table]:
    """Opens a store with Arrow tables; a folder is made if it is missing."""
    return Lake(open_store(settings), settings, lambda table: table)
