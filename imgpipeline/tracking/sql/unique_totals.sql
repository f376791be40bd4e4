-- How many different objects of which label has each source seen since the day began?
--
-- Reads:   day_objects
WITH
by_hour AS (
    SELECT time_bucket(INTERVAL 1 hour, first_seen) AS hour, source, label, count(*) AS new_objects
    FROM day_objects
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
