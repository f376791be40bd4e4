-- The points of the day's tracks, with what detections and frames say of them.
SELECT
    track_id,
    points.source,
    points.class_group,
    frame_id,
    detection_number,
    make_timestamptz(boxes.time_us) AS "timestamp",
    label,
    confidence,
    x,
    y,
    width,
    height,
    sharpness
FROM points
JOIN boxes USING (frame_id, detection_number)
JOIN seen USING (frame_id)
WHERE boxes.day = $day AND seen.day = $day
ORDER BY "timestamp", track_id, frame_id
