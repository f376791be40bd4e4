-- Where do two models agree, and what does only one of them find?
--
-- Reads:   found_a, found_b (detections of A and of B, in the frames that both have looked at),
--          matched (pairs of them that belong together)
-- Answers: one row a label
--
-- The mean is taken over decimals: sums of floating point numbers depend on the order of their parts.
WITH counted AS (
    SELECT label, sum(of_a)::BIGINT AS count_a, sum(of_b)::BIGINT AS count_b
    FROM (SELECT label, 1 AS of_a, 0 AS of_b FROM found_a UNION ALL SELECT label, 0, 1 FROM found_b)
    GROUP BY label),
agreed AS (
    SELECT label, count(*) AS pairs, avg(CAST(iou AS DECIMAL(9, 6))) AS mean_iou FROM matched GROUP BY label)
SELECT
    label,
    count_a,
    count_b,
    coalesce(pairs, 0)                                              AS matched,
    count_a - coalesce(pairs, 0)                                    AS only_a,
    count_b - coalesce(pairs, 0)                                    AS only_b,
    coalesce(pairs, 0) / (count_a + count_b - coalesce(pairs, 0))   AS agreement,
    mean_iou
FROM counted LEFT JOIN agreed USING (label)
ORDER BY label
