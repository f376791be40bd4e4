"""What Dagster hands to ops, assets and sensors.

Owns opening settings and store when they are needed, so that a change in the environment reaches the next run. There
are no fields: a resource's fields are shown in the UI, and secrets must not be.
"""

import dagster as dg

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings


class Pipeline(dg.ConfigurableResource):  # type: ignore[type-arg]  # it yields itself
    """The settings of this process, and what they name."""

    def settings(self) -> Settings:
        """Returns the settings, read anew; raises `ConfigurationError` where one is wrong."""
        return load_settings()

    def store(self, *, patience_s: float | None = None) -> ObjectStore:
        """Opens the object store; raises `ConfigurationError` where it cannot be opened."""
        return open_store(self.settings(), patience_s=patience_s)
