CREATE TABLE IF NOT EXISTS person_distinct_id_overrides {on_cluster} (
    project_id UUID,
    distinct_id String,
    person_id UUID,
    version UInt64
)
ENGINE = {replacing}(version)
ORDER BY (project_id, distinct_id)
