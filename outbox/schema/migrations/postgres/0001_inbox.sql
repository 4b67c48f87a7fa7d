-- Processed events. Rows leave with their partition: one for each generation.
CREATE TABLE {{table .Inbox}} (
    generation   bigint      NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    id           uuid        NOT NULL,
    digest       uuid        NOT NULL,
    service      text        NOT NULL,
    handler      text        NOT NULL,
    event_id     text        NOT NULL,
    event_type   text        NOT NULL,
    result       jsonb,
    PRIMARY KEY (id, generation)
) PARTITION BY RANGE (generation);

COMMENT ON TABLE {{table .Inbox}} IS 'Events that took effect, written in the transaction of their effects';

COMMENT ON COLUMN {{table .Inbox}}.id IS 'First 16 bytes of SHA-256 over service, handler and event ID';

COMMENT ON COLUMN {{table .Inbox}}.digest IS '128-bit hash of the payload; zero when payloads are not compared';

-- The generation that is not closed takes the marks.
CREATE TABLE {{table .Inbox "_generations"}} (
    generation   bigint      PRIMARY KEY,
    opened_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at    timestamptz,
    keep_seconds bigint      NOT NULL DEFAULT 0
);

CREATE TABLE {{table .Inbox "_g1"}} PARTITION OF {{table .Inbox}} FOR VALUES FROM (1) TO (2);

INSERT INTO {{table .Inbox "_generations"}} (generation) VALUES (1);
