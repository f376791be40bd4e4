-- Which boxes of one label do two models have over each other?
--
-- Reads:   found_a, found_b (detections of A and of B, in the frames that both have looked at)
-- Answers: one row for two boxes with an IoU of 0.5 or more; of_a, of_b: how many such rows the box of A, of B has
SELECT *, count(*) OVER (PARTITION BY frame_id, a) AS of_a, count(*) OVER (PARTITION BY frame_id, b) AS of_b
FROM (
    SELECT frame_id, label, a, b, shared / nullif(area_a + area_b - shared, 0) AS iou
    FROM (
        SELECT
            frame_id,
            label,
            found_a.detection_number            AS a,
            found_b.detection_number            AS b,
            found_a.width * found_a.height      AS area_a,
            found_b.width * found_b.height      AS area_b,
            greatest(0, least(found_a.x + found_a.width, found_b.x + found_b.width) - greatest(found_a.x, found_b.x))
            * greatest(0, least(found_a.y + found_a.height, found_b.y + found_b.height) - greatest(found_a.y, found_b.y))
                                                AS shared
        FROM found_a JOIN found_b USING (frame_id, label)))
WHERE iou >= 0.5
ORDER BY frame_id, iou DESC, a, b
