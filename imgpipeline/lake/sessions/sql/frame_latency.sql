-- How soon were the frames of each hour (UTC) and source processed? One row per power of two in seconds that has frames.
--
-- Reads: frame_stats
--
-- Times are whole microseconds, so a time of 0 is below one microsecond.
SELECT
    day,
    hour,
    source,
    bin.key                                             AS from_s,
    CASE WHEN bin.key = 0 THEN 1e-6 ELSE 2 * bin.key END AS below_s,
    bin.value                                           AS frames
FROM (SELECT day, hour, source, unnest(map_entries(latency)) AS bin FROM frame_stats)
ORDER BY hour, source, from_s
