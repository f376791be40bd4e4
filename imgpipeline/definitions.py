"""The Dagster definitions of this project, and the graph at a glance.

    sources ──► stored_images                                                                       (sources)
                      │
               Kafka topic ──frames_sensor──► detect_frames ──► frame_metadata                     (ledger)
                                                                      │
                                                      frames, detections, dead_letters, notices    (day tables)
                                                                      │
                        label_counts ─► label_totals, label_timestamps, frame_stats, source_activity   (summaries)
                                         frame_changes ─► events                                     (events)
                                         zone_occupancy, line_crossings                              (events)
                   events_sensor──► watch_events ──► alerts                                           (events)
                                                                      │
                                                                daily_report                       (reports)

    frames, detections, notices ──► tracks, track_points, unique_objects, unique_totals               (tracks)

    frames ──► redetections (a model, a day) ──► model_comparison ◄── detections                      (redetections)

    day tables, summaries, tracks, events ──► sink_… (one for each sink)                              (sinks)

    frame_metadata ──► segment_bundles; frame_metadata, stored_images ──► deleted_images              (maintenance)

The modules in `defs` describe each asset, job, sensor and schedule; this module lists them.
"""

import logging
import multiprocessing

import dagster as dg

from imgpipeline.defs.alerts import alerts, alerts_are_delivered, events_sensor, watch_events
from imgpipeline.defs.assets.daily import daily_assets
from imgpipeline.defs.assets.frame_metadata import frame_metadata, no_partition_stops
from imgpipeline.defs.assets.redetections import redetect_days, redetections
from imgpipeline.defs.assets.sources import no_source_is_silent, source_silence, sources, stored_images
from imgpipeline.defs.day_schedules import nightly_rebuild, rebuild_days, weekly_redetect
from imgpipeline.defs.detection_job import detect_frames
from imgpipeline.defs.frames_sensor import frames_sensor
from imgpipeline.defs.ingest_jobs import ingest_folder, ingest_video
from imgpipeline.defs.keep_tables import keep_tables_current
from imgpipeline.defs.maintenance import (
    bundle_segments,
    deleted_images,
    hourly_bundles,
    hourly_retention,
    retain_images_job,
    segment_bundles,
)
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.sinks import sink_definitions
from imgpipeline.settings.loading import read_variable, unknown_settings
from imgpipeline.settings.logs import LOG_FORMAT, start_logging, writes_json

start_logging(read_variable(LOG_FORMAT), logging.WARNING)
if writes_json():
    logging.getLogger("dagster").handlers.clear()  # its lines reach the handler of all others

if multiprocessing.parent_process() is None:  # only in the code server, not in its runs, which load this module again
    for unknown in unknown_settings():
        logging.getLogger(__name__).warning("Warning: %s", unknown)

defs = dg.Definitions.merge(
    dg.Definitions(
        assets=[
            sources,
            stored_images,
            frame_metadata,
            segment_bundles,
            deleted_images,
            daily_assets,
            alerts,
            redetections,
        ],
        jobs=[
            detect_frames,
            watch_events,
            rebuild_days,
            redetect_days,
            bundle_segments,
            retain_images_job,
            ingest_folder,
            ingest_video,
        ],
        schedules=[nightly_rebuild, weekly_redetect, hourly_bundles, hourly_retention],
        asset_checks=[no_partition_stops, no_source_is_silent, alerts_are_delivered],
        sensors=[frames_sensor, keep_tables_current, source_silence, events_sensor],
        resources={"pipeline": Pipeline()},
        executor=dg.in_process_executor,
    ),
    sink_definitions(),
)
