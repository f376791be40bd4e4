"""The object store: S3, a local folder or memory behind one small client.

Owns opening a store, its errors, conditional puts, the probe of what a store can do, and the rule which paths may be
read as images. What the keys mean belongs to `contracts.keys`; what the objects hold belongs to `ledger` and `lake`.
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
