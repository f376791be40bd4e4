"""The settings and the store for ops, assets and sensors, and this project's errors as failures of Dagster."""

import contextlib
from collections.abc import Iterator

import dagster as dg

from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings


class Pipeline(dg.ConfigurableResource):  # type: ignore[type-arg]  # it yields itself
    """The settings and the store, read when they are needed, so each run uses the current environment.

    It has no fields, because the UI shows the fields of a resource, and secrets must not be shown.
    """

    def settings(self) -> Settings:
        """Reads the settings; raises `ConfigurationError` if one is invalid."""
        return load_settings()

    def store(self, *, patience_s: float | None = None) -> ObjectStore:
        """Opens the object store; raises `ConfigurationError` if it cannot be opened."""
        return open_store(self.settings(), patience_s=patience_s)


@contextlib.contextmanager
def known_failures() -> Iterator[None]:
    """Turns an error of this project into a `dagster.Failure` with message and next step, without a traceback.

    Raises:
        Failure: The body raised an error of this project; only transient errors may be retried.
    """
    try:
        yield
    except ImgpipelineError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"family": type(error).__name__, "next_step": error.next_step or "see the message"},
            allow_retries=isinstance(error, TransientError),
        ) from None
