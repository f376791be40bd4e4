-- Counts of labels, each with the time for which its group was observed.
--
-- Reads: frame_stats, and the query of the counts; `summaries` fills in the parts in braces
--
-- If labels are named, each of them is combined with every observed group: a label that was not seen while its group was
-- observed has a row with the count 0. Other columns of such a row are NULL.
-- Times are added as whole microseconds: sums of floating point numbers depend on the order of their parts.
WITH counted AS (
    SELECT 1 AS one, * FROM (
{counts}    )
),
observed AS (
    SELECT 1 AS one, {watched}CAST(sum(CAST(round(observed_s * 1e6) AS BIGINT)) AS DOUBLE) / 1e6 AS observed_s
    FROM frame_stats
    WHERE observed_s > 0 AND (len($sources) = 0 OR list_contains($sources, source))
    GROUP BY ALL
)
SELECT
    {by},
    {zeros},
    * EXCLUDE (one, {by}, {named}, observed_s, models),
    coalesce(models, []) AS models,
    observed_s
FROM counted
{joined} USING ({keys})
ORDER BY {order}
