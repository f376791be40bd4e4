"""The sources' layer: the cameras, videos and folders, and the images that they store and announce.

Both assets are external. What a source reports in its notices becomes a materialization of `stored_images` as soon as a
detection run has written the notice into the ledger.
"""

from collections.abc import Iterator

import dagster as dg

from imgpipeline.defs.partitions import DAYS
from imgpipeline.detect import LaneReport

SOURCES = dg.AssetKey("sources")
STORED_IMAGES = dg.AssetKey("stored_images")

sources = dg.AssetSpec(
    SOURCES,
    group_name="sources",
    kinds={"kafka"},
    owners=["team:imgpipeline"],
    description="Where do the frames come from? Cameras, videos, folders and other producers. The command imgpipeline "
    "sources status shows the state of each, sources books the outcome of every frame that it received.",
)
stored_images = dg.AssetSpec(
    STORED_IMAGES,
    deps=[SOURCES],
    partitions_def=DAYS,
    group_name="sources",
    kinds={"s3"},
    owners=["team:imgpipeline"],
    description="Which images did the sources store, and which frames did they lose? A day gets a materialization when "
    "accounts of its sources arrive: frames received, announced, gated, dropped and failed, and observed seconds.",
)


def image_materializations(report: LaneReport) -> Iterator[dg.AssetMaterialization]:
    """Yields one materialization for each day of which accounts are new in a report."""
    for day, counts in report.days.items():
        if counts.accounts is not None:
            yield dg.AssetMaterialization(
                STORED_IMAGES,
                partition=day.isoformat(),
                metadata={
                    "sources": sorted(counts.accounts.sources),
                    "observed_s_of_run": round(counts.accounts.observed_s, 3),
                    **{f"{name}_of_run": frames for name, frames in counts.accounts.frames.items()},
                },
                tags={"dagster/data_version": counts.data_version},
            )
