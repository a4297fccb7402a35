-- What the worker needs beyond the platform's tables. Additive: nullable columns and tables of its own.

-- Where merged persons went. One hop: into_person is never itself a from_person.
CREATE TABLE IF NOT EXISTS processor_person_redirects (
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    from_person uuid NOT NULL,
    into_person uuid NOT NULL,
    merged_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, from_person)
);
CREATE INDEX IF NOT EXISTS processor_person_redirects_into_idx ON processor_person_redirects (project_id, into_person);

-- What ClickHouse and Redis must be told about distinct ids that moved: written with the merge, published after it.
CREATE TABLE IF NOT EXISTS processor_person_overrides (
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    distinct_id varchar(400) NOT NULL,
    person_id uuid NOT NULL,
    version bigint NOT NULL,
    published boolean NOT NULL DEFAULT false,
    -- The stream entries whose merges moved it, each with a space behind it.
    moves text NOT NULL DEFAULT '',
    PRIMARY KEY (project_id, distinct_id)
);
CREATE INDEX IF NOT EXISTS processor_person_overrides_unpublished_idx
    ON processor_person_overrides (project_id, distinct_id) WHERE NOT published;

-- Every merge, for people who ask why two persons are one.
CREATE TABLE IF NOT EXISTS processor_merges (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    from_person uuid NOT NULL,
    into_person uuid NOT NULL,
    event_id uuid NOT NULL,
    anonymous_id varchar(400) NOT NULL,
    distinct_id varchar(400) NOT NULL,
    stream_id text NOT NULL,
    consumer text NOT NULL,
    merged_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS processor_merges_into_idx ON processor_merges (project_id, into_person);
CREATE INDEX IF NOT EXISTS processor_merges_from_idx ON processor_merges (project_id, from_person);

-- Last, because these lock tables in use until the end of the transaction.
-- When this distinct id was first the subject of an $identify. Two identified ids are never merged by a shared browser.
ALTER TABLE person_distinct_ids ADD COLUMN IF NOT EXISTS identified_at timestamptz;

-- Versions of the writes behind persons.properties, so that a late write never overwrites a newer one.
ALTER TABLE persons ADD COLUMN IF NOT EXISTS property_versions jsonb;
