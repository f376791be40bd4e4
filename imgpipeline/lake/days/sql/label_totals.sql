-- How many of which label did each source see in the whole day (UTC)?
--
-- Reads:   label_counts (one row a source, label and hour)
-- Answers: one row a source and label
--
-- What label_counts leaves out (summary_threshold) is left out here too.
SELECT
    day,
    source,
    label,
    CAST(sum(count) AS BIGINT)                 AS count
FROM label_counts
GROUP BY day, source, label
ORDER BY source, label
