"""Defaults that are wrong for large sites, and the values to use instead; docs/scale.md has the calculation."""

from imgpipeline.settings import Settings

MANY_LANES = 50
"""With more lanes, runs of 15 minutes are more than 4,800 a day; each starts a process and stays in the history."""
LONG_RUN_S = 21_600.0
MANY_PARTITIONS = 100
"""With more partitions, a segment per partition and second costs more than 40 USD a day on S3."""
LONG_COMMIT_INTERVAL_S = 10.0


def advise(settings: Settings, partitions: int) -> list[str]:
    """Returns the settings to change at this number of lanes and partitions, each with its reason."""
    advice = []
    if settings.lanes > MANY_LANES and settings.max_run_s < LONG_RUN_S:
        runs = settings.lanes * 86_400 / settings.max_run_s
        advice.append(
            f"{settings.lanes} lanes make {runs:,.0f} runs a day: set IMGPIPELINE_MAX_RUN_S={LONG_RUN_S:g} or more"
        )
    if partitions > MANY_PARTITIONS and settings.commit_interval_s < LONG_COMMIT_INTERVAL_S:
        segments = partitions * 86_400 / settings.commit_interval_s
        advice.append(
            f"{partitions} partitions store up to {segments:,.0f} segments a day: set "
            f"IMGPIPELINE_COMMIT_INTERVAL_S={LONG_COMMIT_INTERVAL_S:g} or more"
        )
    return advice
