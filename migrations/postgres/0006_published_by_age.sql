-- What is published and old is forgotten. The version is the time of the move in microseconds; negative where nobody had to
-- be told. Built while the table is written to.
CREATE INDEX CONCURRENTLY IF NOT EXISTS processor_person_overrides_published_idx
    ON processor_person_overrides (version) WHERE published
