-- Which sources were there, from when to when, and how much came from them? One row a source, the busiest first.
--
-- Reads: source_activity
--
-- The longest pause is one within a day: the night between two days is none.
SELECT
    source,
    CAST(sum(frames) AS BIGINT)                     AS frames,
    CAST(sum(processed) AS BIGINT)                  AS processed,
    CAST(sum(gated) AS BIGINT)                      AS gated,
    CAST(sum(dead_letters) AS BIGINT)               AS dead_letters,
    min(first_seen)                                 AS first_seen,
    max(last_seen)                                  AS last_seen,
    count(*)                                        AS days,
    CAST(sum(active_hours) AS BIGINT)               AS active_hours,
    max(longest_pause_s)                            AS longest_pause_s,
    CAST(sum(size_bytes) AS BIGINT)                 AS size_bytes,
    list_sort(list_distinct(flatten(list(models)))) AS models
FROM source_activity
GROUP BY source
ORDER BY frames DESC, source NULLS LAST
