"""The whole graph at a glance.

    sources ──► stored_images                                                                       (sources)
                      │
               Kafka topic ──frames_sensor──► detect_frames ──► frame_metadata                     (ledger)
                                                                      │
                                                      frames, detections, dead_letters             (day tables)
                                                                      │
                        label_counts ─► label_totals, label_timestamps, frame_stats, source_activity   (summaries)
                                         frame_changes ─► events                                     (events)
                                         zone_occupancy, line_crossings                              (events)
                   events_sensor──► watch_events ──► alerts                                           (events)
                                                                      │
                                                                daily_report                       (reports)

    frames, detections, notices ──► tracks, track_points, unique_objects, unique_totals               (tracks)

    frames ──► redetections (a model, a day) ──► model_comparison ◄── detections                      (redetections)

What each of them is and does stands in its own module below `defs`; this one only names them.
"""

import dagster as dg

from imgpipeline.defs.assets.alerts import alerts, alerts_are_delivered
from imgpipeline.defs.assets.day_tables import day_tables
from imgpipeline.defs.assets.events import events
from imgpipeline.defs.assets.frame_metadata import frame_metadata
from imgpipeline.defs.assets.redetections import model_comparison, redetect_days, redetections
from imgpipeline.defs.assets.reports import reports
from imgpipeline.defs.assets.sources import sources, stored_images
from imgpipeline.defs.assets.summaries import summaries
from imgpipeline.defs.assets.tracks import tracks
from imgpipeline.defs.automation import keep_tables_current
from imgpipeline.defs.bundling import bundle_segments, hourly_bundles, segment_bundles
from imgpipeline.defs.detection_job import detect_frames
from imgpipeline.defs.frames_sensor import frames_sensor
from imgpipeline.defs.ingest_jobs import ingest_folder, ingest_video
from imgpipeline.defs.rebuilding import nightly_rebuild, rebuild_days
from imgpipeline.defs.redetecting import weekly_redetect
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.retention import deleted_images, hourly_retention, retain_images_job
from imgpipeline.defs.silence import no_source_is_silent, source_silence
from imgpipeline.defs.unknown_settings import warn_of_unknown_settings
from imgpipeline.defs.watching import events_sensor, watch_events

warn_of_unknown_settings()
defs = dg.Definitions(
    assets=[
        sources,
        stored_images,
        frame_metadata,
        segment_bundles,
        deleted_images,
        day_tables,
        *summaries,
        tracks,
        *events,
        alerts,
        *reports,
        redetections,
        model_comparison,
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
    asset_checks=[no_source_is_silent, alerts_are_delivered],
    sensors=[frames_sensor, keep_tables_current, source_silence, events_sensor],
    resources={"pipeline": Pipeline()},
    executor=dg.in_process_executor,
)
