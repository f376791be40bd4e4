-- The detections that one number of a label summary counts, each with the frame it was found in.
--
-- of_day:    DATE (UTC)
-- of_hour:   0 to 23 (UTC); NULL: the whole day
-- of_label:  the label
-- of_source: the camera, video or folder; NULL: all
--
-- The join is a left join, so a detection whose frame is missing is shown as a fault rather than left out.
CREATE MACRO working.counted_detections(of_day, of_hour, of_label, of_source) AS TABLE
SELECT
    found.day,
    found."timestamp",
    found.source,
    found.frame_id,
    found.frame_number,
    found.detection_number,
    found.label,
    found.confidence,
    found.x,
    found.y,
    found.width,
    found.height,
    found.source_image_path,
    found.source_kafka_topic,
    found.source_kafka_topic_id,
    found.source_kafka_partition,
    found.source_kafka_offset,
    frame.processing_timestamp,
    frame.model_used,
    frame.model_sha256,
    frame.confidence_threshold,
    frame.nms_threshold,
    frame.replay_of
FROM detections AS found
LEFT JOIN frames AS frame
       ON frame.day = of_day
      AND frame.frame_id = found.frame_id
      AND frame.source_kafka_topic_id = found.source_kafka_topic_id
      AND frame.source_kafka_partition = found.source_kafka_partition
      AND frame.source_kafka_offset = found.source_kafka_offset
WHERE found.day = of_day
  AND (of_hour IS NULL OR hour(found."timestamp") = of_hour)
  AND found.label = of_label
  AND (of_source IS NULL OR found.source = of_source)
  AND found.confidence >= coalesce(getvariable('summary_threshold'), 0)
