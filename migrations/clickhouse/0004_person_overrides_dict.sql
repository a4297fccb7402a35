CREATE DICTIONARY IF NOT EXISTS person_overrides_dict {on_cluster} (
    project_id UUID,
    distinct_id String,
    person_id UUID
)
PRIMARY KEY project_id, distinct_id
SOURCE(CLICKHOUSE({credentials}
    QUERY 'SELECT project_id, distinct_id, argMax(person_id, version) AS person_id FROM `{database}`.person_distinct_id_overrides GROUP BY project_id, distinct_id'))
LAYOUT(COMPLEX_KEY_HASHED())
LIFETIME(MIN 30 MAX 60)
