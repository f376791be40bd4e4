"""The resource that opens settings and store for ops, assets and sensors.

They are opened when needed, so that a change in the environment reaches the next run. The resource has no fields,
because the UI shows a resource's fields, and secrets must not be shown.
"""

import dagster as dg

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings


class Pipeline(dg.ConfigurableResource):  # type: ignore[type-arg]  # it yields itself
    """The settings of this process, and what they name."""

    def settings(self) -> Settings:
        """Reads the settings again; raises `ConfigurationError` if one is wrong."""
        return load_settings()

    def store(self, *, patience_s: float | None = None) -> ObjectStore:
        """Opens the object store; raises `ConfigurationError` if it cannot be opened."""
        return open_store(self.settings(), patience_s=patience_s)
