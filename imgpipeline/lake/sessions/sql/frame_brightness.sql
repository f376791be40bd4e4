-- How bright were the frames of each hour (UTC) and source? One row per step of 16 that has frames.
--
-- Reads: frame_stats
SELECT
    day,
    hour,
    source,
    bin.key      AS from_brightness,
    bin.key + 16 AS below_brightness,
    bin.value    AS frames
FROM (SELECT day, hour, source, unnest(map_entries(brightness)) AS bin FROM frame_stats)
ORDER BY hour, source, from_brightness
