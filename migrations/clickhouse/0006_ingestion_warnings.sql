CREATE TABLE IF NOT EXISTS ingestion_warnings {on_cluster} (
    project_id UUID,
    type LowCardinality(String),
    details String,
    timestamp DateTime
)
ENGINE = {plain}
ORDER BY (project_id, timestamp)
TTL timestamp + INTERVAL 30 DAY
