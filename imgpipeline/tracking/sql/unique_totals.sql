-- How many different objects of which label has each source seen since the day began?
--
-- Reads:   day_tracks
-- Set by:  unique_min_s; objects that were seen for a shorter time in all are left out
WITH
labels AS (
    SELECT object_id, first(label ORDER BY points DESC, label) AS label
    FROM (SELECT object_id, label, sum(points) AS points FROM day_tracks GROUP BY object_id, label)
    GROUP BY object_id
),
objects AS (
    SELECT object_id, any_value(source) AS source, time_bucket(INTERVAL 1 hour, min(first_seen)) AS hour
    FROM day_tracks GROUP BY object_id
    HAVING epoch_us(max(last_seen)) - epoch_us(min(first_seen)) >= getvariable('unique_min_s') * 1e6
),
by_hour AS (
    SELECT hour, source, label, count(*) AS new_objects
    FROM objects JOIN labels USING (object_id)
    GROUP BY hour, source, label
)
SELECT
    hour,
    source,
    label,
    new_objects,
    CAST(sum(new_objects) OVER (PARTITION BY source, label ORDER BY hour) AS BIGINT) AS objects
FROM by_hour
ORDER BY hour, source, label
