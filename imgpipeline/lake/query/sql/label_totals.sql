-- How many of which label were seen in total, or by which source? One row for each group, the most frequent first.
--
-- Reads: label_counts, which has models and hours; label_totals does not
-- {by}:  the columns that make a group
SELECT
    {by},
    CAST(sum(count) AS BIGINT)                      AS count,
    count(DISTINCT day)                             AS days,
    min(day)                                        AS first_day,
    max(day)                                        AS last_day,
    list_sort(list_distinct(flatten(list(models)))) AS models
FROM label_counts
WHERE (len($sources) = 0 OR list_contains($sources, source))
  AND (len($labels) = 0 OR list_contains($labels, label))
GROUP BY {by}
ORDER BY count DESC, {by}
