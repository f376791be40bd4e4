-- How many different objects of which label did each source see by hour, and how long did they stay?
--
-- Reads:   day_tracks, day_points, observed (hour, source, observed_s)
-- Set by:  unique_min_s; objects that were seen for a shorter time in all are left out
WITH
labels AS (
    SELECT object_id, first(label ORDER BY points DESC, label) AS object_label
    FROM (SELECT object_id, label, sum(points) AS points FROM day_tracks GROUP BY object_id, label)
    GROUP BY object_id
),
objects AS (
    SELECT object_id, epoch_us(max(last_seen)) - epoch_us(min(first_seen)) AS stay_us
    FROM day_tracks GROUP BY object_id
    HAVING stay_us >= getvariable('unique_min_s') * 1e6
),
sights AS (
    SELECT DISTINCT time_bucket(INTERVAL 1 hour, "timestamp") AS hour, track_id FROM day_points
),
of_objects AS (
    SELECT hour, source, object_label AS label, count(*) AS objects, sum(stay_us) AS stays_us, max(stay_us) AS longest_us
    FROM (SELECT DISTINCT hour, source, object_id FROM day_tracks JOIN sights USING (track_id))
    JOIN objects USING (object_id) JOIN labels USING (object_id)
    GROUP BY hour, source, object_label
),
of_tracks AS (
    SELECT hour, source, label, count(*) AS tracks, sum(CAST(round(frame_rate * 1e6) AS BIGINT)) AS rates
    FROM day_tracks JOIN sights USING (track_id)
    GROUP BY hour, source, label
)
SELECT
    hour,
    source,
    label,
    coalesce(objects, 0)                 AS objects,
    coalesce(tracks, 0)                  AS tracks,
    stays_us / objects / 1e6             AS mean_stay_s,
    longest_us / 1e6                     AS longest_stay_s,
    rates / tracks / 1e6                 AS frame_rate,
    observed_s
FROM of_objects FULL JOIN of_tracks USING (hour, source, label) LEFT JOIN observed USING (hour, source)
ORDER BY hour, source, label
