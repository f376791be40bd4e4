"""What Dagster shows of a built object: one materialization for each of its tables, with figures and a preview."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import dagster as dg

from imgpipeline.contracts.keys import report_key
from imgpipeline.contracts.text import counted
from imgpipeline.daily.objects import COMPARISON, OBJECTS, REPORT, TABLES, TRACKS
from imgpipeline.defs.dagster_internals import DATA_VERSION_TAG
from imgpipeline.defs.previews import (
    Preview,
    preview_dead_letters,
    preview_detections,
    preview_summary,
    show_examples,
    show_model_labels,
    show_table,
)
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    from imgpipeline.daily.build import ObjectBuild
    from imgpipeline.tracking.day_tracks import TracksBuild
    from imgpipeline.tracking.manifest import TracksManifest

_MOST_PREVIEWS = 3
"""In a long range, only the last days get previews: each reads the day, and takes space in the event log."""
_Shown = tuple[dict[str, Any], str]
"""Metadata of a table, and its data version."""


@dataclass(frozen=True, slots=True)
class DayShown:
    """Turns the outcomes of one run into materializations."""

    context: dg.AssetExecutionContext
    settings: Settings
    store: ObjectStore
    days: Sequence[date]
    """All days of the run, in order."""

    def results(self, built: "ObjectBuild") -> Iterator[dg.MaterializeResult[None]]:
        """Yields or stores the materializations of an object that was built or current.

        Dagster gives the result of an asset to all days of a range, so a range stores an event for each day instead. A
        table that was built together with the requested one gets an event, too.
        """
        how = "left out" if built.result is None else "current" if built.result.skipped else "built"
        self.context.log.info(f"{built.name} of {built.day}: {how}{_said(built)}.")
        for table in OBJECTS[built.name].tables:
            metadata, version = self._shown(built, table)
            key = dg.AssetKey(table)
            if len(self.days) == 1 and key in self.context.selected_asset_keys:
                yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=dg.DataVersion(version))
            else:
                tags, partition = {DATA_VERSION_TAG: version}, built.day.isoformat()
                self.context.log_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata, tags=tags))

    def _shown(self, built: "ObjectBuild", table: str) -> _Shown:
        if built.name == REPORT:
            return self._report(built)
        if built.name == COMPARISON:
            return self._comparison(built)
        key = stored_key(table, built.day)
        if built.result is None:  # left out: a backfill fails for days without an event
            return {"path": f"{self.store.url}/{key}", "skipped": True}, ""
        metadata = {"path": f"{self.store.url}/{key}", "skipped": built.result.skipped, **self._viewer(built.day)}
        done = built.result
        manifest = done.manifests[key]
        metadata |= {"size_bytes": done.sizes[key], **self._preview(built, table)}
        if built.name == TRACKS:
            metadata |= {"library": manifest.library, **_slices(done, manifest)}
        if built.name == TABLES:
            metadata |= {"extended": done.is_extended}
            metadata |= {"announced_again": manifest.duplicates} if table == "frames" else {}
        built_at = dg.MetadataValue.timestamp(manifest.built_at)
        return {**metadata, "dagster/row_count": manifest.rows, "built_at": built_at}, manifest.content

    def _viewer(self, day: date) -> dict[str, Any]:
        url = self.settings.viewer_url
        return {"viewer": dg.MetadataValue.url(f"{url.rstrip('/')}/?day={day}")} if url else {}

    def _preview(self, built: "ObjectBuild", table: str) -> Preview:
        settings, store, day = self.settings, self.store, built.day
        if day not in self.days[-_MOST_PREVIEWS:]:
            return {}
        if table in SUMMARIES:
            return preview_summary(settings, store, SUMMARIES[table].table, day)
        if table == "detections":
            return preview_detections(settings, store, day)
        if table == "dead_letters" and built.result.of(table).rows:
            return preview_dead_letters(settings, store, day)
        return {}

    def _comparison(self, built: "ObjectBuild") -> _Shown:
        """Returns the figures of a comparison, and a few of its images."""
        done, path = built.result, f"{self.store.url}/{stored_key(COMPARISON, built.day)}"
        if done is None:  # left out: a backfill fails for days without an event
            return {"path": path, "skipped": True}, ""
        manifest = done.manifest
        metadata: dict[str, Any] = {
            "path": path,
            "skipped": done.skipped,
            "dagster/row_count": manifest.rows,
            "size_bytes": done.size_bytes,
            "models": list(manifest.made_of),
            "examples": [f"{self.store.url}/{example}" for example in manifest.examples],
        }
        if built.day in self.days[-_MOST_PREVIEWS:]:
            metadata |= show_model_labels(self.settings, self.store, built.day)
            metadata |= show_examples(self.store, manifest.examples)
        return metadata, manifest.version

    def _report(self, built: "ObjectBuild") -> _Shown:
        """Returns the address of a report and the figures at its top."""
        done, url = built.result, self.settings.viewer_url
        page = f"{self.store.url}/{report_key(built.day)}"
        at = dg.MetadataValue.url(f"{url.rstrip('/')}/reports/{built.day}") if url else page
        headline = done.manifest
        numbers = {name: getattr(headline, name) for name in _FIGURES}
        metadata: dict[str, Any] = {
            "path": at,
            "size_bytes": done.size_bytes,
            "skipped": done.skipped,
            **{name: value for name, value in numbers.items() if value is not None},
        }
        # Not a hash of the page: it names the versions of the tables, which change with every build.
        return metadata, _hash((headline.recipe, replace(headline, inputs="")))


_FIGURES = ("frames", "detections", "dead_letters", "notices", "dropped", "observed_s", "received", "objects",
            "crossings", "events")  # fmt: skip


def _hash(content: object) -> str:
    return sha256(repr(content).encode()).hexdigest()[:16]


def _slices(done: "TracksBuild", manifest: "TracksManifest") -> Mapping[str, Any]:
    rates = show_table(("source", "frames/s"), list(manifest.frame_rates.items()))
    return {
        "slices_followed": done.slices_followed,
        "slices_kept": done.slices_kept,
        **({"frame_rates": rates} if manifest.frame_rates else {}),
    }


def _said(built: "ObjectBuild") -> str:
    if built.name == TABLES:
        return f", {counted(built.result.of('frames').rows, 'frame')}"
    if built.name == TRACKS:
        done = built.result
        followed = counted(done.slices_followed, "slice")
        tracks = counted(done.manifests[stored_key(TRACKS, built.day)].rows, "track")
        return f", {tracks}, {followed} followed, {done.slices_kept} kept"
    return ""
