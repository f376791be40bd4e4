-- Which different objects were seen on a day? The label of an object is the one with the most points of its tracks.
--
-- Reads:   day_tracks
-- Set by:  $least_s; objects that were seen for a shorter time in all are left out
SELECT
    object_id,
    source,
    first(label ORDER BY points DESC, label)             AS label,
    min(first_seen)                                      AS first_seen,
    max(last_seen)                                       AS last_seen,
    epoch_us(max(last_seen)) - epoch_us(min(first_seen)) AS stay_us,
    CAST(sum(tracks) AS BIGINT)                          AS tracks,
    CAST(sum(points) AS BIGINT)                          AS points,
    arg_max(best_frame_id, most_points)                  AS best_frame_id
FROM (
    SELECT object_id, source, label, min(first_seen) AS first_seen, max(last_seen) AS last_seen, count(*) AS tracks,
           sum(points) AS points, arg_max(best_frame_id, points) AS best_frame_id, max(points) AS most_points
    FROM day_tracks GROUP BY object_id, source, label
)
GROUP BY object_id, source
HAVING stay_us >= $least_s * 1e6
