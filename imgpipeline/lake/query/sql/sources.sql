-- Which sources were there, from when to when, and how much came from them? One row per source, the busiest first.
--
-- Reads: source_activity, and frame_stats for observed time, also of sources that sent nothing but notices
--
-- The longest pause is measured within each day: the time between two days does not count.
WITH active AS (
    SELECT
        source,
        CAST(sum(frames) AS BIGINT)                     AS frames,
        CAST(sum(processed) AS BIGINT)                  AS processed,
        CAST(sum(gated) AS BIGINT)                      AS gated,
        CAST(sum(dead_letters) AS BIGINT)               AS dead_letters,
        min(first_seen)                                 AS first_seen,
        max(last_seen)                                  AS last_seen,
        count(*)                                        AS days,
        CAST(sum(active_hours) AS BIGINT)               AS active_hours,
        max(longest_pause_s)                            AS longest_pause_s,
        CAST(sum(size_bytes) AS BIGINT)                 AS size_bytes,
        list_sort(list_distinct(flatten(list(models)))) AS models
    FROM source_activity
    GROUP BY source
),
observed AS (
    SELECT source, CAST(sum(CAST(round(observed_s * 1e6) AS BIGINT)) AS DOUBLE) / 1e6 AS observed_s
    FROM frame_stats
    WHERE observed_s IS NOT NULL
    GROUP BY source
)
SELECT
    coalesce(active.source, observed.source) AS source,
    coalesce(frames, 0)                      AS frames,
    coalesce(processed, 0)                   AS processed,
    coalesce(gated, 0)                       AS gated,
    coalesce(dead_letters, 0)                AS dead_letters,
    first_seen,
    last_seen,
    coalesce(days, 0)                        AS days,
    coalesce(active_hours, 0)                AS active_hours,
    longest_pause_s,
    coalesce(size_bytes, 0)                  AS size_bytes,
    observed_s,
    coalesce(models, [])                     AS models
FROM active
FULL JOIN observed ON observed.source = active.source
ORDER BY frames DESC, source NULLS LAST
