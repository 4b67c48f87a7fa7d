-- The ledger: who processes an event now, and which ones were processed. This
-- row says which of the two hot tables is in use. Times are milliseconds since
-- 1970 by the server's clock.
CREATE TABLE {{table .Ledger}} (
    only_row  smallint PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    epoch     bigint   NOT NULL,
    slot      smallint NOT NULL,
    stage     smallint NOT NULL,
    turned_at bigint   NOT NULL
);

INSERT INTO {{table .Ledger}} (epoch, slot, stage, turned_at)
VALUES (1, 0, 0, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);

COMMENT ON TABLE {{table .Ledger}} IS 'Events being processed, and those processed within the window';

-- Leases and the latest marks. Marks leave by TRUNCATE, once they are packed.
CREATE TABLE {{table .Ledger "_hot_0"}} (
    token      bigint  NOT NULL,
    expires_at bigint  NOT NULL,
    id         uuid    PRIMARY KEY,
    digest     uuid    NOT NULL,
    marked     boolean NOT NULL
) WITH (fillfactor = 60);

CREATE TABLE {{table .Ledger "_hot_1"}} (
    token      bigint  NOT NULL,
    expires_at bigint  NOT NULL,
    id         uuid    PRIMARY KEY,
    digest     uuid    NOT NULL,
    marked     boolean NOT NULL
) WITH (fillfactor = 60);

-- Packed marks: some ten thousand a run, some two dozen a row.
CREATE TABLE {{table .Ledger "_runs"}} (
    number     bigint  PRIMARY KEY,
    buckets    integer NOT NULL,
    marks      bigint  NOT NULL,
    expires_at bigint  NOT NULL,
    filter     bytea   NOT NULL
);

ALTER TABLE {{table .Ledger "_runs"}} ALTER COLUMN filter SET STORAGE EXTERNAL;

CREATE TABLE {{table .Ledger "_packed"}} (
    place bigint PRIMARY KEY,
    marks bytea  NOT NULL
);

ALTER TABLE {{table .Ledger "_packed"}} ALTER COLUMN marks SET STORAGE EXTERNAL;

-- How far packing has come.
CREATE TABLE {{table .Ledger "_keeper"}} (
    only_row smallint PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    run      bigint   NOT NULL,
    buckets  integer  NOT NULL,
    packed   integer  NOT NULL
);

INSERT INTO {{table .Ledger "_keeper"}} (run, buckets, packed) VALUES (0, 0, 0);
