-- How many of which label were seen in all? One row a label, the most frequent first.
--
-- Reads: label_totals; label_counts for the models, since totals do not hold them
WITH models_of AS (
    SELECT label, list_sort(list_distinct(flatten(list(models)))) AS models
    FROM label_counts
    GROUP BY label
)
SELECT
    total.label,
    CAST(sum(total.count) AS BIGINT) AS count,
    count(*)                         AS days,
    min(total.day)                   AS first_day,
    max(total.day)                   AS last_day,
    any_value(models_of.models)      AS models
FROM label_totals AS total
LEFT JOIN models_of USING (label)
GROUP BY total.label
ORDER BY count DESC, total.label
