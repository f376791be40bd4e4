-- How many frames came from which source in which hour (UTC), what were they like, and for how long was it observed?
--
-- Reads:   frames (one row a frame; one that was announced twice is there once)
--          dead_letters (one row an offset whose record or image is wrong)
--          notices (one row an offset whose record reports on a source)
-- Set by:  observed_gap_s; of a longer gap between two frames this much counts as observed. Not set, it is 60
-- Answers: one row an hour and source; also where there were dead letters or notices only
--
-- A dead letter has the hour of its Kafka record, and none (NULL) where that was written on another day; it has no
-- source where the record could not be read that far.
-- Bins are counted as maps from a bin's lower bound to its frames: maps of several hours or days can be summed.
-- Documents of imports may have one time alone: it stands for both, and their latency is unknown.
-- The power of two below a whole number has as many binary digits as the number.
--
-- Observed time is the union of the source's accounts, cut at hours. An account that was observed for a part of its
-- stretch counts for that part of each second; where several overlap, the largest part counts. An hour without an
-- account is observed from each frame to the next one of the day, up to observed_gap_s.
-- Times are added as whole microseconds: sums of floating point numbers depend on the order of their parts.
WITH timed_frames AS (
    SELECT
        *,
        least(coalesce(lead(epoch_us("timestamp")) OVER (PARTITION BY day, source ORDER BY "timestamp"),
                       epoch_us("timestamp")) - epoch_us("timestamp"),
              CAST(coalesce(getvariable('observed_gap_s'), 60) * 1e6 AS BIGINT)) AS gap_us,
        epoch_us(local_hour("timestamp")) + 3_600_000_000 - epoch_us("timestamp") AS rest_us,
        CASE WHEN processing_timestamp <> "timestamp" OR NOT starts_with(source_kafka_topic, 'import.')
             THEN epoch_us(processing_timestamp) - epoch_us("timestamp") END AS latency_us,
        concat_ws(' ', nullif(model_used, ''), nullif(model_sha256[:8], ''), '>' || confidence_threshold) AS model
    FROM frames
),
of_frames AS (
    SELECT
        day,
        local_hour("timestamp") AS hour,
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
        list_sort(list(DISTINCT model) FILTER (status = 'processed' AND model <> '')) AS models,
        sum(least(gap_us, rest_us))            AS gaps_us
    FROM timed_frames
    GROUP BY day, hour, source
),
-- The part of a gap that lies in the hour after the one in which it began.
of_late_gaps AS (
    SELECT
        day,
        local_hour("timestamp") AS hour,
        source,
        sum(late_us)                           AS late_gaps_us
    FROM (
        SELECT day, source, gap_us - rest_us AS late_us, "timestamp" + to_microseconds(gap_us) AS "timestamp"
        FROM timed_frames
        WHERE gap_us > rest_us)
    GROUP BY day, hour, source
),
of_dead_letters AS (
    SELECT
        day,
        CASE WHEN local_day("timestamp") = day THEN local_hour("timestamp") END AS hour,
        source,
        count(*)                               AS dead_letters
    FROM dead_letters
    GROUP BY day, hour, source
),
-- The hours that each notice touches; the part is NULL where it says nothing of observed time.
touched AS (
    SELECT
        local_day("timestamp")                 AS day,
        "timestamp"                            AS hour,
        source,
        epoch_us(interval_start)               AS start_us,
        epoch_us(interval_end)                 AS end_us,
        CASE WHEN observed_s IS NOT NULL AND interval_end > interval_start
             THEN least(observed_s * 1e6 / (epoch_us(interval_end) - epoch_us(interval_start)), 1) END AS part
    FROM (
        SELECT * EXCLUDE ("timestamp"), unnest(generate_series(
            local_hour("timestamp"),
            greatest("timestamp", interval_end - INTERVAL 1 microsecond),
            INTERVAL 1 hour))                  AS "timestamp"
        FROM (SELECT *, interval_start AS "timestamp" FROM notices))
),
pieces AS (
    SELECT
        day,
        hour,
        source,
        part,
        greatest(start_us, epoch_us(hour))              AS from_us,
        least(end_us, epoch_us(hour) + 3_600_000_000)   AS until_us
    FROM touched
    WHERE part IS NOT NULL
),
-- Between two neighbouring edges, the same accounts apply throughout.
edges AS (
    SELECT day, hour, source, at_us, lead(at_us) OVER (PARTITION BY day, hour, source ORDER BY at_us) AS next_us
    FROM (SELECT day, hour, source, from_us AS at_us FROM pieces
          UNION
          SELECT day, hour, source, until_us FROM pieces)
),
of_accounts AS (
    SELECT day, hour, source, sum(CAST(round(part * (next_us - at_us)) AS BIGINT)) AS accounts_us
    FROM (
        SELECT day, hour, source, at_us, next_us, max(part) AS part
        FROM edges JOIN pieces USING (day, hour, source)
        WHERE from_us <= at_us AND until_us >= next_us
        GROUP BY day, hour, source, at_us, next_us)
    GROUP BY day, hour, source
),
of_notices AS (
    SELECT DISTINCT day, hour, source, true AS has_notices FROM touched
),
together AS (
    SELECT * FROM of_frames
    UNION ALL BY NAME SELECT * FROM of_late_gaps
    UNION ALL BY NAME SELECT * FROM of_dead_letters
    UNION ALL BY NAME SELECT * FROM of_accounts
    UNION ALL BY NAME SELECT * FROM of_notices
)
SELECT
    day,
    hour,
    source,
    coalesce(any_value(frames), 0)             AS frames,
    coalesce(any_value(processed), 0)          AS processed,
    coalesce(any_value(gated), 0)              AS gated,
    coalesce(any_value(dead_letters), 0)       AS dead_letters,
    coalesce(any_value(size_bytes), 0)         AS size_bytes,
    CAST(coalesce(any_value(sizes), MAP {}) AS MAP(BIGINT, BIGINT))       AS sizes,
    CAST(coalesce(any_value(dimensions), MAP {}) AS MAP(VARCHAR, BIGINT)) AS dimensions,
    CAST(coalesce(any_value(brightness), MAP {}) AS MAP(INTEGER, BIGINT)) AS brightness,
    CAST(coalesce(any_value(sharpness), MAP {}) AS MAP(BIGINT, BIGINT))   AS sharpness,
    CAST(coalesce(any_value(latency), MAP {}) AS MAP(DOUBLE, BIGINT))     AS latency,
    coalesce(any_value(models), [])            AS models,
    CASE WHEN any_value(accounts_us) IS NOT NULL THEN any_value(accounts_us)
         WHEN any_value(frames) IS NOT NULL OR any_value(late_gaps_us) IS NOT NULL
         THEN coalesce(any_value(gaps_us), 0) + coalesce(any_value(late_gaps_us), 0)
         WHEN any_value(has_notices) THEN 0 END / 1e6                    AS observed_s,
    CASE WHEN any_value(accounts_us) IS NOT NULL THEN 'accounts'
         WHEN any_value(frames) IS NOT NULL OR any_value(late_gaps_us) IS NOT NULL THEN 'gaps'
         WHEN any_value(has_notices) THEN 'accounts' END                 AS observed_by
FROM together
GROUP BY day, hour, source
HAVING any_value(frames) IS NOT NULL OR any_value(dead_letters) IS NOT NULL OR any_value(has_notices)
ORDER BY hour NULLS LAST, source NULLS LAST
