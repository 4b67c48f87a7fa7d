-- Messages to publish, written in the transaction that they tell of. state: 0
-- waits, 1 published, 2 parked. One relay at a time publishes a shard of keys.
CREATE TABLE {{table .Outbox}} (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at  TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    settled_at  TEXT,
    attempts    INTEGER NOT NULL DEFAULT 0,
    shard       INTEGER NOT NULL,
    state       INTEGER NOT NULL DEFAULT 0,
    topic       TEXT    NOT NULL,
    message_key TEXT    NOT NULL,
    event_id    TEXT    NOT NULL,
    uuid        TEXT    NOT NULL,
    metadata    TEXT    NOT NULL,
    reason      TEXT,
    payload     BLOB    NOT NULL
);

CREATE INDEX {{index .Outbox "_waiting"}} ON {{table .Outbox}} (shard, id) WHERE state = 0;

CREATE INDEX {{index .Outbox "_published"}} ON {{table .Outbox}} (settled_at) WHERE state = 1;

CREATE INDEX {{index .Outbox "_parked"}} ON {{table .Outbox}} (id) WHERE state = 2;

-- Who publishes which shard. Times are milliseconds since 1970.
CREATE TABLE {{table .Outbox "_shards"}} (
    shard      INTEGER PRIMARY KEY,
    owner      TEXT    NOT NULL DEFAULT '',
    token      INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER NOT NULL DEFAULT 0
);

INSERT INTO {{table .Outbox "_shards"}} (shard) VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15), (16), (17), (18), (19), (20), (21), (22), (23), (24), (25), (26), (27), (28), (29), (30), (31);

-- The relays that live.
CREATE TABLE {{table .Outbox "_relays"}} (
    instance   TEXT    PRIMARY KEY,
    expires_at INTEGER NOT NULL,
    listening  INTEGER NOT NULL
);
