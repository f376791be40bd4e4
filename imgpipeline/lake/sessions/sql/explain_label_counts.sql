-- Traces a count of label_counts: its detections, their frames, and the segment of the ledger that holds each.
--
-- of_day: DATE (UTC) · of_hour: 0 to 23 (UTC) · of_label: the label · of_source: the source; default: all sources
--
-- The segment that holds an offset is the last one of its chain that starts at or before it. If it ends before the
-- offset, the columns of the segment are NULL: the ledger then lacks a detection that the tables show.
CREATE MACRO explain_label_counts(of_day, of_hour, of_label, of_source := NULL) AS TABLE
SELECT
    counted.*,
    CASE WHEN counted.source_kafka_offset < segment.end_offset THEN segment.key END           AS segment,
    CASE WHEN counted.source_kafka_offset < segment.end_offset THEN segment.run_id END        AS run_id,
    CASE WHEN counted.source_kafka_offset < segment.end_offset THEN segment.writer_id END     AS writer_id,
    CASE WHEN counted.source_kafka_offset < segment.end_offset THEN segment.settings_hash END AS settings_hash,
    CASE WHEN counted.source_kafka_offset < segment.end_offset THEN segment.created_at END    AS committed_at
FROM working.counted_detections(of_day, of_hour, of_label, of_source) AS counted
ASOF LEFT JOIN segments AS segment
       ON segment.topic = counted.source_kafka_topic
      AND segment.topic_id = counted.source_kafka_topic_id
      AND segment.partition = counted.source_kafka_partition
      AND counted.source_kafka_offset >= segment.start
