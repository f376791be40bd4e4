-- Traces a count of frame_stats or source_activity: its frames, each with the segment of the ledger that holds it.
--
-- of_day:    DATE (UTC)
-- of_hour:   0 to 23 (UTC); NULL: the whole day
-- of_source: the camera, video or folder; NULL: all
--
-- The segment is found as in explain_label_counts. Dead letters, which frame_stats also counts, are in the table
-- dead_letters.
CREATE MACRO explain_frame_stats(of_day, of_hour, of_source) AS TABLE
SELECT
    frame.*,
    CASE WHEN frame.source_kafka_offset < segment.end_offset THEN segment.key END           AS segment,
    CASE WHEN frame.source_kafka_offset < segment.end_offset THEN segment.run_id END        AS run_id,
    CASE WHEN frame.source_kafka_offset < segment.end_offset THEN segment.writer_id END     AS writer_id,
    CASE WHEN frame.source_kafka_offset < segment.end_offset THEN segment.settings_hash END AS settings_hash,
    CASE WHEN frame.source_kafka_offset < segment.end_offset THEN segment.created_at END    AS committed_at
FROM (
    SELECT * FROM frames
    WHERE day = of_day
      AND (of_hour IS NULL OR hour("timestamp") = of_hour)
      AND (of_source IS NULL OR source = of_source)) AS frame
ASOF LEFT JOIN segments AS segment
       ON segment.topic = frame.source_kafka_topic
      AND segment.topic_id = frame.source_kafka_topic_id
      AND segment.partition = frame.source_kafka_partition
      AND frame.source_kafka_offset >= segment.start
