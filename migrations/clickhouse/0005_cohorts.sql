CREATE TABLE IF NOT EXISTS cohort_members {on_cluster} (
    cohort_id UUID,
    project_id UUID,
    person_id UUID,
    version UInt64
)
ENGINE = {replacing}(version)
ORDER BY (project_id, cohort_id, person_id);

CREATE TABLE IF NOT EXISTS person_static_cohort {on_cluster} (
    project_id UUID,
    cohort_id UUID,
    person_id UUID,
    added_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = {replacing}(added_at)
ORDER BY (project_id, cohort_id, person_id);

CREATE TABLE IF NOT EXISTS cohort_membership_history {on_cluster} (
    project_id UUID,
    cohort_id UUID,
    date Date,
    count UInt64,
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = {replacing}(recorded_at)
ORDER BY (project_id, cohort_id, date)
