"""The object store: one client for S3, a local folder or memory, and the input and output files of commands.

`contracts.keys` defines the keys.
"""

from imgpipeline.objectstore.client import Fetched, ObjectInfo, ObjectStore, open_store
from imgpipeline.objectstore.failures import ForbiddenError, ObjectMissingError
from imgpipeline.objectstore.images import ImageLocation, ImageReader

__all__ = [
    "Fetched",
    "ForbiddenError",
    "ImageLocation",
    "ImageReader",
    "ObjectInfo",
    "ObjectMissingError",
    "ObjectStore",
    "open_store",
]
