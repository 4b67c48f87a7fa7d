-- Messages to publish, written in the transaction that they tell of. state: 0
-- waits, 1 published, 2 parked. One relay at a time publishes a shard of keys.
CREATE TABLE IF NOT EXISTS {{table .Outbox}} (
    id          bigint      AUTO_INCREMENT PRIMARY KEY,
    created_at  datetime(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    settled_at  datetime(6),
    attempts    int         NOT NULL DEFAULT 0,
    shard       smallint    NOT NULL,
    state       tinyint     NOT NULL DEFAULT 0,
    topic       varchar(255) NOT NULL,
    message_key text        NOT NULL,
    event_id    text        NOT NULL,
    uuid        text        NOT NULL,
    metadata    mediumtext  NOT NULL,
    reason      text,
    payload     longblob    NOT NULL,
    KEY waiting (state, shard, id),
    KEY settled (state, settled_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin COMMENT = 'Messages to publish, written in the transaction that they tell of';

-- Who publishes which shard. Times are milliseconds since 1970 by the server's
-- clock.
CREATE TABLE IF NOT EXISTS {{table .Outbox "_shards"}} (
    shard      smallint     PRIMARY KEY,
    owner      varchar(255) NOT NULL DEFAULT '',
    token      bigint       NOT NULL DEFAULT 0,
    expires_at bigint       NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

INSERT IGNORE INTO {{table .Outbox "_shards"}} (shard) VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15), (16), (17), (18), (19), (20), (21), (22), (23), (24), (25), (26), (27), (28), (29), (30), (31);

-- The relays that live.
CREATE TABLE IF NOT EXISTS {{table .Outbox "_relays"}} (
    instance   varchar(255) PRIMARY KEY,
    expires_at bigint       NOT NULL,
    listening  tinyint      NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
