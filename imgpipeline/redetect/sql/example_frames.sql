-- Which frames show best where two models differ?
--
-- Reads:   found_a, found_b, matched (as model_comparison.sql), compared (frames that both have looked at)
-- Answers: one row a frame: the worst of each label in turn, then frames in which they agree; and the labels in question
WITH differing AS (
    SELECT frame_id, label, count(*) AS boxes
    FROM (
        SELECT frame_id, label FROM found_a ANTI JOIN matched
            ON matched.frame_id = found_a.frame_id AND matched.a = found_a.detection_number
        UNION ALL
        SELECT frame_id, label FROM found_b ANTI JOIN matched
            ON matched.frame_id = found_b.frame_id AND matched.b = found_b.detection_number)
    GROUP BY frame_id, label),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY label ORDER BY boxes DESC, frame_id) AS place FROM differing),
chosen AS (
    SELECT frame_id, min(place) AS place, sum(boxes) AS boxes, list_sort(list(label)) AS labels
    FROM ranked GROUP BY frame_id
    UNION ALL
    SELECT frame_id, NULL, count(*), [] FROM matched
    WHERE frame_id NOT IN (SELECT frame_id FROM differing) GROUP BY frame_id)
SELECT frame_id, source_image_path, labels
FROM chosen JOIN compared USING (frame_id)
ORDER BY place NULLS LAST, boxes DESC, frame_id
LIMIT 30
