"""SQL conditions that several questions share."""

from imgpipeline.lake.storage.engine import quoted


def equal_to(**wanted: str | None) -> str:
    """Returns the condition that columns have these values; None stands for any value."""
    return " AND ".join(f"{name} = {quoted(value)}" for name, value in wanted.items() if value is not None) or "true"
