-- How sharp were the frames of each hour (UTC) and source? One row per power of two that has frames.
--
-- Reads: frame_stats
SELECT
    day,
    hour,
    source,
    bin.key                                                               AS from_sharpness,
    CASE WHEN bin.key = 0 THEN 1
         ELSE CAST(least(2::HUGEINT * bin.key, 9223372036854775807) AS BIGINT) END AS below_sharpness,
    bin.value                                                             AS frames
FROM (SELECT day, hour, source, unnest(map_entries(sharpness)) AS bin FROM frame_stats)
ORDER BY hour, source, from_sharpness
