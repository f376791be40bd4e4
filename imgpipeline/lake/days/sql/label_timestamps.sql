-- When did each source see which label? The times behind each number of label_counts.
--
-- Reads:   detections (one row an object found in a frame; a frame that was announced twice is there once)
-- Set by:  summary_threshold; weaker detections are left out. Not set, it is 0: all count
-- Answers: one row a source, label and hour; a time is there once for each object, so that there are as many as are counted
SELECT
    day,
    local_hour("timestamp")                    AS hour,
    source,
    label,
    count(*)                                   AS count,
    list("timestamp" ORDER BY "timestamp")     AS timestamps
FROM detections
WHERE confidence >= coalesce(getvariable('summary_threshold'), 0)
GROUP BY day, hour, source, label
ORDER BY hour, source, label
