-- Processed events. Rows leave with their partition: one for each generation.
-- The id is the first 16 bytes of SHA-256 over service, handler and event ID; the
-- digest a 128-bit hash of the payload, zero when payloads are not compared.
CREATE TABLE IF NOT EXISTS {{table .Inbox}} (
    generation   bigint      NOT NULL,
    id           binary(16)  NOT NULL,
    digest       binary(16)  NOT NULL,
    token        bigint      NOT NULL,
    processed_at datetime(6) NOT NULL,
    service      varchar(255)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    handler      varchar(255)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    event_id     varchar(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    event_type   varchar(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    result       json,
    PRIMARY KEY (id, generation)
) ENGINE = InnoDB COMMENT = 'Events that took effect, written in the transaction of their effects'
PARTITION BY RANGE (generation) (PARTITION g1 VALUES LESS THAN (2));

-- The generation that is not closed takes the marks.
CREATE TABLE IF NOT EXISTS {{table .Inbox "_generations"}} (
    generation   bigint      PRIMARY KEY,
    opened_at    datetime(6) NOT NULL,
    closed_at    datetime(6),
    keep_seconds bigint      NOT NULL DEFAULT 0
) ENGINE = InnoDB;

INSERT IGNORE INTO {{table .Inbox "_generations"}} (generation, opened_at) VALUES (1, UTC_TIMESTAMP(6));
