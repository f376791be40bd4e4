-- How large are the frames? One row per power of two in bytes, including empty ones between two others.
--
-- Reads: frame_stats
WITH counted AS (
    SELECT bin.key AS from_bytes, CAST(sum(bin.value) AS BIGINT) AS frames
    FROM (SELECT unnest(map_entries(sizes)) AS bin FROM frame_stats)
    GROUP BY ALL
),
bins AS (
    SELECT 0 AS from_bytes
    UNION ALL
    SELECT CAST(1::BIGINT << place AS BIGINT) FROM range(62) AS powers(place)
)
SELECT
    bins.from_bytes,
    CASE WHEN bins.from_bytes = 0 THEN 1 ELSE 2 * bins.from_bytes END AS below_bytes,
    coalesce(counted.frames, 0)                                       AS frames
FROM bins
LEFT JOIN counted USING (from_bytes)
WHERE bins.from_bytes BETWEEN (SELECT min(from_bytes) FROM counted) AND (SELECT max(from_bytes) FROM counted)
ORDER BY bins.from_bytes
