-- Processed events, in the order in which they were processed; times in
-- milliseconds since 1970. The id is the first 16 bytes of SHA-256 over service,
-- handler and event ID; the digest a 128-bit hash of the payload, zero when
-- payloads are not compared.
CREATE TABLE {{table .Inbox}} (
    number       INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL,
    digest       BLOB    NOT NULL,
    processed_at INTEGER NOT NULL,
    service      TEXT    NOT NULL,
    handler      TEXT    NOT NULL,
    event_id     TEXT    NOT NULL,
    event_type   TEXT    NOT NULL,
    result       TEXT
);

CREATE UNIQUE INDEX {{index .Inbox "_id"}} ON {{table .Inbox}} (id);
