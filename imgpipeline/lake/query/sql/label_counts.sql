-- How many of which label were seen when, and by which source? One row for each group.
--
-- Reads: label_counts
-- {by}:  the columns that make a group
--
-- The mean of a row times its count, in millionths, is the integer that label_counts divided. So the mean over several
-- rows equals the mean over all their detections, to the last digit.
SELECT
    {by},
    CAST(sum(count) AS BIGINT)                      AS count,
    CAST(sum(distinct_frames) AS BIGINT)            AS distinct_frames,
    count(DISTINCT source)                          AS distinct_sources,
    min(first_seen)                                 AS first_seen,
    max(last_seen)                                  AS last_seen,
    CAST(sum(CAST(round(mean_confidence * count * 1e6) AS HUGEINT)) AS DOUBLE) / (sum(count) * 1e6) AS mean_confidence,
    min(min_confidence)                             AS min_confidence,
    max(max_confidence)                             AS max_confidence,
    list_sort(list_distinct(flatten(list(models)))) AS models
FROM label_counts
WHERE (len($sources) = 0 OR list_contains($sources, source))
  AND (len($labels) = 0 OR list_contains($labels, label))
GROUP BY {by}
ORDER BY {by}
