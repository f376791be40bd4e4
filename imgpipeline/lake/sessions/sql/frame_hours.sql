-- How many frames came from which source in which hour (UTC)? `frame_stats` without its maps and lists.
--
-- Reads: frame_stats
SELECT day, hour, source, frames, processed, gated, dead_letters, size_bytes, observed_s, observed_by
FROM frame_stats
ORDER BY hour NULLS LAST, source NULLS LAST
