-- Tables that the rest of the platform owns, created only where they are missing: an empty database of one's own.
-- Indexes come with the table or not at all: the platform's tables may be large and have theirs under other names.
CREATE TABLE IF NOT EXISTS projects (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name varchar(100) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

DO $$
BEGIN
    IF to_regclass('persons') IS NULL THEN
        CREATE TABLE persons (
            id uuid PRIMARY KEY,
            project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
            properties jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX persons_project_id_idx ON persons (project_id);
        CREATE INDEX persons_project_id_updated_at_idx ON persons (project_id, updated_at);
    END IF;
END $$;

DO $$
BEGIN
    IF to_regclass('person_distinct_ids') IS NULL THEN
        CREATE TABLE person_distinct_ids (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
            person_id uuid NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
            distinct_id varchar(400) NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (project_id, distinct_id)
        );
        CREATE INDEX person_distinct_ids_person_id_idx ON person_distinct_ids (person_id);
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS event_definitions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    event_name varchar(500) NOT NULL,
    description varchar(1000),
    tags text[] NOT NULL DEFAULT '{}',
    verified boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, event_name)
);

CREATE TABLE IF NOT EXISTS property_definitions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    property_name varchar(500) NOT NULL,
    property_type varchar(20) NOT NULL DEFAULT 'event',
    description varchar(1000),
    tags text[] NOT NULL DEFAULT '{}',
    verified boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    value_type varchar(20),
    is_numerical boolean NOT NULL DEFAULT false,
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, property_name, property_type)
);

DO $$
BEGIN
    IF to_regclass('event_properties') IS NULL THEN
        CREATE TABLE event_properties (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
            event_name varchar(500) NOT NULL,
            property_name varchar(500) NOT NULL,
            property_type varchar(20) NOT NULL,
            last_seen_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (project_id, event_name, property_name, property_type)
        );
        CREATE INDEX event_properties_project_id_event_name_idx ON event_properties (project_id, event_name);
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(255) NOT NULL UNIQUE,
    password_hash varchar(255) NOT NULL,
    display_name varchar(100) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

DO $$
BEGIN
    IF to_regclass('cohorts') IS NULL THEN
        CREATE TABLE cohorts (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
            created_by uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            name varchar(200) NOT NULL,
            description varchar(1000),
            definition jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            is_static boolean NOT NULL DEFAULT false,
            membership_version bigint,
            membership_computed_at timestamptz,
            errors_calculating bigint NOT NULL DEFAULT 0,
            last_error_at timestamptz,
            last_error_message varchar(500)
        );
        CREATE INDEX cohorts_project_id_idx ON cohorts (project_id);
    END IF;
END $$;
