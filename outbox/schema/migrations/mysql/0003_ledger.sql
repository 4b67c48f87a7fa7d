-- The ledger: who processes an event now, and which ones were processed. This
-- row says which of the two hot tables is in use. Times are milliseconds since
-- 1970 by the server's clock.
CREATE TABLE IF NOT EXISTS {{table .Ledger}} (
    only_row  tinyint  PRIMARY KEY,
    epoch     bigint   NOT NULL,
    slot      tinyint  NOT NULL,
    stage     tinyint  NOT NULL,
    turned_at bigint   NOT NULL
) ENGINE = InnoDB COMMENT = 'Events being processed, and those processed within the window';

INSERT IGNORE INTO {{table .Ledger}} (only_row, epoch, slot, stage, turned_at)
VALUES (1, 1, 0, 0, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000);

-- Leases and the latest marks. Marks leave by TRUNCATE, once they are packed.
CREATE TABLE IF NOT EXISTS {{table .Ledger "_hot_0"}} (
    id         binary(16) PRIMARY KEY,
    digest     binary(16) NOT NULL,
    token      bigint     NOT NULL,
    expires_at bigint     NOT NULL,
    marked     tinyint    NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {{table .Ledger "_hot_1"}} (
    id         binary(16) PRIMARY KEY,
    digest     binary(16) NOT NULL,
    token      bigint     NOT NULL,
    expires_at bigint     NOT NULL,
    marked     tinyint    NOT NULL
) ENGINE = InnoDB;

-- Packed marks: some ten thousand a run, some two dozen a row.
CREATE TABLE IF NOT EXISTS {{table .Ledger "_runs"}} (
    number     bigint   PRIMARY KEY,
    buckets    int      NOT NULL,
    marks      bigint   NOT NULL,
    expires_at bigint   NOT NULL,
    filter     longblob NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {{table .Ledger "_packed"}} (
    place bigint     PRIMARY KEY,
    marks mediumblob NOT NULL
) ENGINE = InnoDB;

-- How far packing has come.
CREATE TABLE IF NOT EXISTS {{table .Ledger "_keeper"}} (
    only_row tinyint PRIMARY KEY,
    run      bigint  NOT NULL,
    buckets  int     NOT NULL,
    packed   int     NOT NULL
) ENGINE = InnoDB;

INSERT IGNORE INTO {{table .Ledger "_keeper"}} (only_row, run, buckets, packed) VALUES (1, 0, 0, 0);
