"""The warning of misspelt settings, given when Dagster loads the code location."""

import logging
import multiprocessing

from imgpipeline.settings.loading import unknown_settings

_LOGGER = logging.getLogger(__name__)


def warn_of_unknown_settings() -> None:
    """Logs each variable that looks like a setting and has no effect.

    Runs load the code location again, in processes that the code server starts. They say nothing: the code server has.
    """
    if multiprocessing.parent_process() is None:
        for unknown in unknown_settings():
            _LOGGER.warning("Warning: %s", unknown)
