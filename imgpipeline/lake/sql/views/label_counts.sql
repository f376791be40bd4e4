-- How many of which label were seen in which hour (UTC)? One row a label and hour.
--
-- Reads: label_counts
SELECT * FROM label_counts ORDER BY hour, label
