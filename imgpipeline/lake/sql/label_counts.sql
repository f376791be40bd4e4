-- How many of which label were seen in which hour (UTC).
--
-- Reads:   detections (one row an object found in a frame; a frame that was announced twice is there once)
-- Answers: one row a label and hour
--
-- The mean is taken over decimals: sums of floating point numbers depend on the order of their parts.
SELECT
    day,
    date_trunc('hour', "timestamp")            AS hour,
    label,
    count(*)                                   AS count,
    count(DISTINCT frame_id)                   AS distinct_frames,
    count(DISTINCT source)                     AS distinct_sources,
    min("timestamp")                           AS first_seen,
    max("timestamp")                           AS last_seen,
    avg(CAST(confidence AS DECIMAL(9, 6)))     AS mean_confidence
FROM detections
GROUP BY day, hour, label
ORDER BY hour, label
