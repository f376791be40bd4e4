-- How many of which label were seen in the whole day (UTC).
--
-- Reads:   label_counts (one row a label and hour)
-- Answers: one row a label
--
-- What label_counts leaves out (summary_threshold) is left out here too.
SELECT
    day,
    label,
    CAST(sum(count) AS BIGINT)                 AS count
FROM label_counts
GROUP BY day, label
ORDER BY label
