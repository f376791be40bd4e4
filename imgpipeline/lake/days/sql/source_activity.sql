-- Which sources were there in the day (UTC), from when to when, and for how long was each silent?
--
-- Reads:   frames (one row a frame; one that was announced twice is there once)
--          dead_letters (one row an offset whose record or image is wrong)
-- Answers: one row a source; also where there were dead letters only
--
-- A dead letter has no source where its record could not be read that far.
WITH of_frames AS (
    SELECT
        day,
        source,
        count(*)                               AS frames,
        count(*) FILTER (status = 'processed') AS processed,
        count(*) FILTER (status = 'gated')     AS gated,
        min("timestamp")                       AS first_seen,
        max("timestamp")                       AS last_seen,
        count(DISTINCT local_hour("timestamp")) AS active_hours,
        max(pause_us) / 1e6                    AS longest_pause_s,
        CAST(sum(size_bytes) AS BIGINT)        AS size_bytes,
        list_sort(list(DISTINCT model) FILTER (status = 'processed' AND model <> '')) AS models
    FROM (
        SELECT
            *,
            epoch_us("timestamp") - lag(epoch_us("timestamp")) OVER (
                PARTITION BY day, source ORDER BY "timestamp") AS pause_us,
            concat_ws(' ', nullif(model_used, ''), nullif(model_sha256[:8], ''), '>' || confidence_threshold) AS model
        FROM frames)
    GROUP BY day, source
),
of_dead_letters AS (
    SELECT day, source, count(*) AS dead_letters
    FROM dead_letters
    GROUP BY day, source
)
SELECT
    coalesce(f.day, d.day)                     AS day,
    coalesce(f.source, d.source)               AS source,
    coalesce(frames, 0)                        AS frames,
    coalesce(processed, 0)                     AS processed,
    coalesce(gated, 0)                         AS gated,
    coalesce(dead_letters, 0)                  AS dead_letters,
    first_seen,
    last_seen,
    coalesce(active_hours, 0)                  AS active_hours,
    longest_pause_s,
    coalesce(size_bytes, 0)                    AS size_bytes,
    coalesce(models, [])                       AS models
FROM of_frames AS f
FULL JOIN of_dead_letters AS d
    ON f.day = d.day AND f.source IS NOT DISTINCT FROM d.source
ORDER BY source NULLS LAST
