"""The object store: S3, a local folder or memory behind one small client, and the reader of input files.

`contracts.keys` defines the keys.
"""

from imgpipeline.objectstore.client import Fetched, ObjectStore, open_store
from imgpipeline.objectstore.failures import ForbiddenError, ObjectMissingError
from imgpipeline.objectstore.listing import ObjectInfo
from imgpipeline.objectstore.locations import ImageLocation, ImageReader

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
