-- How many frames came from which source in which hour (UTC), and what were they like?
--
-- Reads:   frames (one row a frame; one that was announced twice is there once)
--          dead_letters (one row an offset whose record or image is wrong)
-- Answers: one row an hour and source; also where there were dead letters only
--
-- A dead letter has the hour of its Kafka record, and none (NULL) where that was written on another day; it has no
-- source where the record could not be read that far.
-- Bins are counted as maps from a bin's lower bound to its frames: maps of several hours or days can be summed.
-- Documents of imports may have one time alone: it stands for both, and their latency is unknown.
-- The power of two below a whole number has as many binary digits as the number.
WITH of_frames AS (
    SELECT
        day,
        time_bucket(INTERVAL 1 hour, "timestamp") AS hour,
        source,
        count(*)                               AS frames,
        count(*) FILTER (status = 'processed') AS processed,
        count(*) FILTER (status = 'gated')     AS gated,
        CAST(sum(size_bytes) AS BIGINT)        AS size_bytes,
        histogram(CASE WHEN size_bytes < 1 THEN 0
                       ELSE 1::BIGINT << (length(bin(size_bytes)) - 1) END) AS sizes,
        histogram(image_width || 'x' || image_height)                       AS dimensions,
        histogram(CAST(floor(brightness / 16) * 16 AS INTEGER))             AS brightness,
        histogram(CASE WHEN sharpness < 1 THEN 0
                       ELSE 1::BIGINT << (length(bin(CAST(floor(sharpness) AS BIGINT))) - 1) END) AS sharpness,
        histogram(CASE WHEN latency_us <= 0 THEN 0
                       WHEN latency_us < 1_000_000 THEN pow(2, floor(log2(latency_us / 1e6)))
                       ELSE CAST(1::BIGINT << (length(bin(latency_us // 1_000_000)) - 1) AS DOUBLE) END) AS latency,
        list_sort(list(DISTINCT model) FILTER (status = 'processed' AND model <> '')) AS models
    FROM (
        SELECT
            *,
            CASE WHEN processing_timestamp <> "timestamp" OR NOT starts_with(source_kafka_topic, 'import.')
                 THEN epoch_us(processing_timestamp) - epoch_us("timestamp") END AS latency_us,
            concat_ws(' ', nullif(model_used, ''), nullif(model_sha256[:8], ''), '>' || confidence_threshold) AS model
        FROM frames)
    GROUP BY day, hour, source
),
of_dead_letters AS (
    SELECT
        day,
        CASE WHEN CAST("timestamp" AS DATE) = day THEN time_bucket(INTERVAL 1 hour, "timestamp") END AS hour,
        source,
        count(*)                               AS dead_letters
    FROM dead_letters
    GROUP BY day, hour, source
)
SELECT
    coalesce(f.day, d.day)                     AS day,
    coalesce(f.hour, d.hour)                   AS hour,
    coalesce(f.source, d.source)               AS source,
    coalesce(frames, 0)                        AS frames,
    coalesce(processed, 0)                     AS processed,
    coalesce(gated, 0)                         AS gated,
    coalesce(dead_letters, 0)                  AS dead_letters,
    coalesce(size_bytes, 0)                    AS size_bytes,
    CAST(coalesce(sizes, MAP {}) AS MAP(BIGINT, BIGINT))       AS sizes,
    CAST(coalesce(dimensions, MAP {}) AS MAP(VARCHAR, BIGINT)) AS dimensions,
    CAST(coalesce(brightness, MAP {}) AS MAP(INTEGER, BIGINT)) AS brightness,
    CAST(coalesce(sharpness, MAP {}) AS MAP(BIGINT, BIGINT))   AS sharpness,
    CAST(coalesce(latency, MAP {}) AS MAP(DOUBLE, BIGINT))     AS latency,
    coalesce(models, [])                       AS models
FROM of_frames AS f
FULL JOIN of_dead_letters AS d
    ON f.day = d.day AND f.hour IS NOT DISTINCT FROM d.hour AND f.source IS NOT DISTINCT FROM d.source
ORDER BY hour NULLS LAST, source NULLS LAST
