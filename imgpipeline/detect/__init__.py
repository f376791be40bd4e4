"""The detection loop turns the records of a lane into outcomes, and outcomes into segments."""

from typing import TYPE_CHECKING, Any

from imgpipeline.detect.report import LaneReport

if TYPE_CHECKING:
    from imgpipeline.detect.run import follow_lane

__all__ = ["LaneReport", "follow_lane"]


def __getattr__(name: str) -> Any:
    """Imports the loop on first use, since OpenCV and kafka-python would slow down the start of Dagster's runs."""
    if name == "follow_lane":
        from imgpipeline.detect.run import follow_lane  # noqa: PLC0415 - see above

        return follow_lane
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
