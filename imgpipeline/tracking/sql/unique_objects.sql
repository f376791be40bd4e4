-- How many different objects of which label did each source see by hour, and how long did they stay?
--
-- Reads:   day_objects, day_tracks, day_points, observed (hour, source, observed_s)
WITH
sights AS (
    SELECT DISTINCT time_bucket(INTERVAL 1 hour, "timestamp") AS hour, track_id FROM day_points
),
of_objects AS (
    SELECT hour, source, label, count(*) AS objects, sum(stay_us) AS stays_us, max(stay_us) AS longest_us
    FROM (SELECT DISTINCT hour, object_id FROM day_tracks JOIN sights USING (track_id))
    JOIN day_objects USING (object_id)
    GROUP BY hour, source, label
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
