-- No unique key: nothing but Hapax keeps a parcel from being shipped twice.
CREATE TABLE IF NOT EXISTS shipments (
  label INTEGER NOT NULL,
  order_id VARCHAR(64) NOT NULL,
  item VARCHAR(64) NOT NULL
);
