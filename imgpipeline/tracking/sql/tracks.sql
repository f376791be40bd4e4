-- One row a track of the day: its object, when it was seen, its label and its best image.
--
-- Confidences are added as whole millionths: sums of floating point numbers depend on the order of their parts.
WITH
labels AS (
    SELECT track_id, first(label ORDER BY weight DESC, label) AS label
    FROM (SELECT track_id, label, sum(CAST(round(confidence * 1e6) AS BIGINT)) AS weight
          FROM day_points GROUP BY track_id, label)
    GROUP BY track_id
),
best AS (
    SELECT DISTINCT ON (track_id) track_id, frame_id, detection_number
    FROM day_points
    ORDER BY track_id, width * height * ln(2 + coalesce(sharpness, 0)) DESC, "timestamp", frame_id
),
spans AS (
    SELECT track_id, min("timestamp") AS first_seen, max("timestamp") AS last_seen, count(*) AS points,
           sum(CAST(round(confidence * 1e6) AS BIGINT)) / count(*) / 1e6 AS mean_confidence
    FROM day_points GROUP BY track_id
)
SELECT
    track_id,
    object_id,
    continues_track_id,
    source,
    class_group,
    label,
    slice_start,
    first_seen,
    last_seen,
    points,
    mean_confidence,
    frame_rate,
    ended_by,
    stitched_after,
    frame_id         AS best_frame_id,
    detection_number AS best_detection_number
FROM followed JOIN named USING (track_id) JOIN labels USING (track_id) JOIN spans USING (track_id)
JOIN best USING (track_id)
ORDER BY first_seen, track_id
