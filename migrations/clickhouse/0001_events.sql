CREATE TABLE IF NOT EXISTS events {on_cluster} (
    event_id UUID DEFAULT generateUUIDv4(),
    project_id UUID,
    event_name LowCardinality(String),
    event_type LowCardinality(String) DEFAULT 'track',
    distinct_id String,
    anonymous_id String DEFAULT '',
    user_id String DEFAULT '',
    person_id UUID,
    session_id String DEFAULT '',
    url String DEFAULT '',
    referrer String DEFAULT '',
    page_title String DEFAULT '',
    page_path String DEFAULT '',
    device_type LowCardinality(String) DEFAULT '',
    browser LowCardinality(String) DEFAULT '',
    browser_version String DEFAULT '',
    os LowCardinality(String) DEFAULT '',
    os_version String DEFAULT '',
    screen_width UInt16 DEFAULT 0,
    screen_height UInt16 DEFAULT 0,
    country LowCardinality(String) DEFAULT '',
    region String DEFAULT '',
    city String DEFAULT '',
    language LowCardinality(String) DEFAULT '',
    timezone String DEFAULT '',
    properties String DEFAULT '{}',
    user_properties String DEFAULT '{}',
    sdk_name LowCardinality(String) DEFAULT '',
    sdk_version String DEFAULT '',
    timestamp DateTime64(3, 'UTC'),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    batch_id String DEFAULT '',
    ip String DEFAULT '',
    PROJECTION events_by_project_timestamp (SELECT * ORDER BY project_id, timestamp, event_id)
)
ENGINE = {replacing}(ingested_at)
PARTITION BY toYYYYMM(timestamp)
ORDER BY (project_id, event_name, timestamp, event_id)
TTL toDateTime(timestamp) + INTERVAL 365 DAY
SETTINGS deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild',
    non_replicated_deduplication_window = 1000
