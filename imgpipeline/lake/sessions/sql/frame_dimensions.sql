-- How wide and high were the frames of each hour (UTC) and source? One row per width and height that has frames.
--
-- Reads: frame_stats
SELECT
    day,
    hour,
    source,
    CAST(split_part(bin.key, 'x', 1) AS INTEGER) AS image_width,
    CAST(split_part(bin.key, 'x', 2) AS INTEGER) AS image_height,
    bin.value                                    AS frames
FROM (SELECT day, hour, source, unnest(map_entries(dimensions)) AS bin FROM frame_stats)
ORDER BY hour, source, image_width, image_height
