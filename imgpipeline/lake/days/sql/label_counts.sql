-- How many of which label did each source see in which hour (UTC)?
--
-- Reads:   detections (one row an object found in a frame; a frame that was announced twice is there once)
-- Set by:  summary_threshold; weaker detections are left out. Not set, it is 0: all count
-- Answers: one row a source, label and hour
--
-- Sum `count` and `distinct_frames` over sources for all of them: a frame has one source.
-- The mean is taken over decimals: sums of floating point numbers depend on the order of their parts.
SELECT
    day,
    local_hour("timestamp")                    AS hour,
    source,
    label,
    count(*)                                   AS count,
    count(DISTINCT frame_id)                   AS distinct_frames,
    min("timestamp")                           AS first_seen,
    max("timestamp")                           AS last_seen,
    avg(CAST(confidence AS DECIMAL(9, 6)))     AS mean_confidence,
    min(confidence)                            AS min_confidence,
    max(confidence)                            AS max_confidence,
    list_sort(coalesce(list(DISTINCT model) FILTER (model <> ''), [])) AS models
FROM (
    SELECT
        *,
        concat_ws(' ', nullif(model_used, ''), nullif(model_sha256[:8], ''), '>' || confidence_threshold) AS model
    FROM detections)
WHERE confidence >= coalesce(getvariable('summary_threshold'), 0)
GROUP BY day, hour, source, label
ORDER BY hour, source, label
