-- How much was seen at which hour of the day? One row per hour with a frame, dead letter or notice.
--
-- Reads: frame_stats, and label_counts for the detections
--
-- The hour is that of a local clock: an hour that is repeated at the end of daylight saving time has one row.
-- Observed seconds are added up over sources and days: two cameras can observe two hours within one hour.
-- A dead letter whose record was written on another day has no hour. Its row comes last, with the hour NULL.
WITH seen AS (
    SELECT
        hour(local_time(hour))                  AS hour,
        CAST(sum(frames) AS BIGINT)             AS frames,
        CAST(sum(processed) AS BIGINT)          AS processed,
        CAST(sum(gated) AS BIGINT)              AS gated,
        CAST(sum(dead_letters) AS BIGINT)       AS dead_letters,
        CAST(sum(CAST(round(observed_s * 1e6) AS BIGINT)) AS DOUBLE) / 1e6 AS observed_s,
        list_sort(list_distinct(flatten(list(models)))) AS models
    FROM frame_stats
    GROUP BY ALL
),
found AS (
    SELECT hour(local_time(hour)) AS hour, CAST(sum(count) AS BIGINT) AS detections
    FROM label_counts
    GROUP BY ALL
)
SELECT
    seen.hour,
    seen.frames,
    coalesce(found.detections, 0) AS detections,
    seen.processed,
    seen.gated,
    seen.dead_letters,
    seen.observed_s,
    seen.models
FROM seen
LEFT JOIN found ON found.hour = seen.hour
ORDER BY seen.hour NULLS LAST
