"""Errors of this project as Dagster shows them: message and next step, without the traceback of a known cause."""

import contextlib
from collections.abc import Iterator

import dagster as dg

from imgpipeline.errors import ImgpipelineError, TransientError


@contextlib.contextmanager
def known_failures() -> Iterator[None]:
    """Turns an error of this project into a `dagster.Failure`; only what may be temporary is retried.

    Raises:
        Failure: The body raised an error of this project.
    """
    try:
        yield
    except ImgpipelineError as error:
        raise as_failure(error) from None


def as_failure(error: ImgpipelineError) -> dg.Failure:
    """Returns a known error as Dagster shows it."""
    return dg.Failure(
        description=str(error),
        metadata={"family": type(error).__name__, "next_step": error.next_step or "see the message"},
        allow_retries=isinstance(error, TransientError),
    )
