-- What does each session of a source account for, and which of its records are in the tables? One row per source, session and day.
--
-- Reads:   frames and {letters}, the stored dead letters, of the wanted days; and all notices, which tell the sessions
-- Answers: also one row per source and day for records that belong to no session
--
-- A frame names its session in its attribute `session`. Records that name none, and dead letters, belong to the session of
-- their source's last notice before them, unless that has ended; without one, to that of the next notice, unless that starts.
-- Replays are left out: the dead letter that they replay is already counted.
WITH records AS (
    SELECT day, source, source_kafka_topic AS topic, source_kafka_topic_id AS topic_id,
           source_kafka_partition AS "partition", source_kafka_offset AS kafka_offset, 1 AS is_frame,
           CASE WHEN contains(attributes, '"session"') AND json_type(attributes, '$.session') = 'VARCHAR'
                THEN nullif(attributes ->> '$.session', '') END AS named
    FROM frames
    WHERE replay_of IS NULL AND NOT starts_with(source_kafka_topic, 'import.') AND {is_wanted}
    UNION ALL
    SELECT day, source, topic, topic_id, "partition", kafka_offset, 0, NULL
    FROM {letters}
    WHERE replay_of IS NULL AND NOT starts_with(topic, 'import.') AND {is_wanted}
),
placed AS (
    SELECT r.*, b.session AS session_before, b.kind AS kind_before
    FROM (SELECT * FROM records WHERE named IS NULL) AS r
    ASOF LEFT JOIN notices AS b
        ON b.topic = r.topic AND b.topic_id = r.topic_id AND b."partition" = r."partition" AND b.source = r.source
       AND b.kafka_offset <= r.kafka_offset
),
told AS (
    SELECT p.*, a.session AS session_after, a.kind AS kind_after
    FROM placed AS p
    ASOF LEFT JOIN notices AS a
        ON a.topic = p.topic AND a.topic_id = p.topic_id AND a."partition" = p."partition" AND a.source = p.source
       AND a.kafka_offset >= p.kafka_offset
),
bounds AS (  -- up to which offset of a chain the accounts of a session on a day count its records
    SELECT day, source, session, "at", max(stop) AS stop
    FROM (
        SELECT day, source, session, concat(topic, '/', "partition") AS "at", kafka_offset AS stop
        FROM notices WHERE received IS NOT NULL
        UNION ALL
        SELECT day, source, session, unnest(map_keys(said)), unnest(map_values(said))
        FROM (SELECT *, TRY_CAST(attributes -> '$.announced_before' AS MAP(VARCHAR, BIGINT)) AS said
              FROM notices WHERE contains(attributes, '"announced_before"')))
    GROUP BY ALL
),
counted AS (
    SELECT r.day, r.source, topic, topic_id, "partition", r.session, sum(is_frame)::BIGINT AS frames,
           sum(1 - is_frame)::BIGINT AS letters, count(*) FILTER (kafka_offset >= stop) AS later
    FROM (
        SELECT * EXCLUDE named, named AS session FROM records WHERE named IS NOT NULL
        UNION ALL
        SELECT day, source, topic, topic_id, "partition", kafka_offset, is_frame,
               CASE WHEN kind_before <> 'ended' THEN session_before
                    WHEN kind_before IS NULL AND kind_after <> 'started' THEN session_after END
        FROM told) AS r
    LEFT JOIN bounds AS b
        ON b.day = r.day AND b.source = r.source AND b.session = r.session AND b."at" = concat(topic, '/', "partition")
    GROUP BY ALL
),
accounts AS (
    SELECT day, source, topic, topic_id, "partition", session,
           count(received)::BIGINT AS accounts, sum(received)::BIGINT AS received, sum(announced)::BIGINT AS announced,
           sum(gated)::BIGINT AS gated, sum(failed)::BIGINT AS failed,
           list(dropped) FILTER (dropped IS NOT NULL) AS dropped,
           list(attributes ->> '$.announced_before') FILTER (contains(attributes, '"announced_before"')) AS reaches,
           sum(CAST(round(observed_s * 1e6) AS BIGINT))::DOUBLE / 1e6 AS observed_s
    FROM notices
    GROUP BY ALL
),
sessions AS (
    SELECT source, topic, topic_id, "partition", session, bool_or(kind = 'started') AS is_started,
           bool_or(kind = 'ended') AS is_ended, min(kafka_offset) AS first_offset, max(kafka_offset) AS last_offset
    FROM notices
    GROUP BY ALL
),
days AS (
    SELECT coalesce(c.day, a.day) AS day, coalesce(c.source, a.source) AS source, coalesce(c.topic, a.topic) AS topic,
           coalesce(c.topic_id, a.topic_id) AS topic_id, coalesce(c."partition", a."partition") AS "partition",
           coalesce(c.session, a.session) AS session, coalesce(c.frames, 0) AS frames, coalesce(c.letters, 0) AS letters, c.later,
           coalesce(a.accounts, 0) AS accounts, a.* EXCLUDE (day, source, topic, topic_id, "partition", session, accounts)
    FROM counted AS c
    FULL JOIN accounts AS a
        ON c.day = a.day AND c.source = a.source AND c.topic = a.topic AND c.topic_id = a.topic_id
       AND c."partition" = a."partition" AND c.session = a.session
)
SELECT days.*, coalesce(is_started, false) AS is_started, coalesce(is_ended, false) AS is_ended, first_offset, last_offset
FROM days
LEFT JOIN sessions USING (source, topic, topic_id, "partition", session)
WHERE {is_wanted}
ORDER BY day, source NULLS LAST, topic, topic_id, "partition", first_offset NULLS LAST, session NULLS LAST
