//! The platform's own tables, with everything in them, while somebody uses them.

use std::time::Duration;

use super::{ALL, Pair, count};
use crate::support::{World, eventually};

/// Tables as the platform may have left them: more columns, other names of indexes, none of ours.
const PLATFORM_PG: &str = "
    CREATE EXTENSION pg_trgm;
    CREATE TABLE projects (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name varchar(100) NOT NULL,
        slug varchar(100) NOT NULL UNIQUE, token text NOT NULL UNIQUE, timezone varchar(64) NOT NULL DEFAULT 'UTC',
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE persons (id uuid PRIMARY KEY, project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
        properties jsonb NOT NULL DEFAULT '{}', created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX idx_persons_project ON persons (project_id);
    CREATE INDEX idx_persons_properties ON persons USING gin (properties);
    CREATE TABLE person_distinct_ids (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), project_id uuid NOT NULL,
        person_id uuid NOT NULL REFERENCES persons (id) ON DELETE CASCADE, distinct_id varchar(400) NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (project_id, distinct_id));
    CREATE INDEX idx_pdi_person ON person_distinct_ids (person_id);
    CREATE TABLE event_definitions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), project_id uuid NOT NULL,
        event_name varchar(500) NOT NULL, last_seen_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (project_id, event_name));
    CREATE INDEX idx_event_names ON event_definitions USING gin (event_name gin_trgm_ops);
    INSERT INTO projects (id, name, slug, token) VALUES ('11111111-1111-1111-1111-111111111111', 'p', 's', 't');
    INSERT INTO persons (id, project_id, properties) SELECT gen_random_uuid(), id, '{\"n\": 12345678901234567890.10}'
        FROM projects, generate_series(1, 100);
    INSERT INTO person_distinct_ids (project_id, person_id, distinct_id) SELECT project_id, id, id::text FROM persons";

const PLATFORM_CH: [&str; 4] = [
    "CREATE TABLE @._migrations (name String, checksum String, applied_at DateTime DEFAULT now())
     ENGINE = MergeTree ORDER BY name",
    "INSERT INTO @._migrations (name, checksum) VALUES ('0001_init', 'theirs')",
    "CREATE TABLE @.events (event_id UUID DEFAULT generateUUIDv4(), project_id UUID, event_name LowCardinality(String),
        event_type LowCardinality(String) DEFAULT 'track', distinct_id String, anonymous_id String DEFAULT '',
        user_id String DEFAULT '', person_id UUID, session_id String DEFAULT '', url String DEFAULT '',
        referrer String DEFAULT '', page_title String DEFAULT '', page_path String DEFAULT '',
        device_type LowCardinality(String) DEFAULT '', browser LowCardinality(String) DEFAULT '',
        browser_version String DEFAULT '', os LowCardinality(String) DEFAULT '', os_version String DEFAULT '',
        screen_width UInt16 DEFAULT 0, screen_height UInt16 DEFAULT 0, country LowCardinality(String) DEFAULT '',
        region String DEFAULT '', city String DEFAULT '', language LowCardinality(String) DEFAULT '',
        timezone String DEFAULT '', properties String DEFAULT '{}', user_properties String DEFAULT '{}',
        sdk_name LowCardinality(String) DEFAULT '', sdk_version String DEFAULT '', timestamp DateTime64(3, 'UTC'),
        ingested_at DateTime64(3, 'UTC') DEFAULT now64(3), batch_id String DEFAULT '', theirs String DEFAULT 'more',
        PROJECTION events_by_project_timestamp (SELECT * ORDER BY project_id, timestamp, event_id))
     ENGINE = ReplacingMergeTree(ingested_at) PARTITION BY toYYYYMM(timestamp)
     ORDER BY (project_id, event_name, timestamp, event_id)
     SETTINGS deduplicate_merge_projection_mode = 'rebuild'",
    "INSERT INTO @.events (project_id, event_name, distinct_id, timestamp)
     SELECT generateUUIDv4(), 'old', toString(number), now64(3) FROM numbers(100)",
];

async fn platform<'a>(world: &'a World, name: &'static str) -> Pair<'a> {
    let pair = Pair::created(world, name).await;
    pair.pg(PLATFORM_PG).await;
    for sql in PLATFORM_CH {
        pair.ch(sql).await;
    }
    pair
}

#[tokio::test]
async fn the_platforms_tables_get_additions_only() {
    let world = World::start().await;
    let pair = platform(&world, "platform").await;
    // Files change when a table is rewritten; indexes and rows when they are touched.
    let kept = [
        "SELECT relname, relfilenode FROM pg_class
         WHERE relname IN ('projects', 'persons', 'person_distinct_ids', 'event_definitions') ORDER BY 1",
        "SELECT indexname FROM pg_indexes
         WHERE tablename IN ('projects', 'persons', 'person_distinct_ids', 'event_definitions')
           AND indexname <> 'person_distinct_ids_identified_idx' ORDER BY 1",
        "SELECT md5(string_agg(id || properties::text, ',' ORDER BY id)), count(*) FROM persons",
    ];
    let mut before = Vec::new();
    for sql in kept {
        before.push(pair.pg(sql).await);
    }
    let rows = "SELECT count(), sum(cityHash64(event_id, distinct_id, timestamp)) FROM @.events";
    let rows_before = pair.ch(rows).await;

    let text = pair.migrate();
    assert_eq!(count(&text, "applied now"), ALL, "{text}");

    for (sql, before) in kept.into_iter().zip(before) {
        assert_eq!(pair.pg(sql).await, before, "{sql}");
    }
    assert_eq!(pair.ch(rows).await, rows_before);
    assert_eq!(
        pair.ch("SELECT name, checksum FROM @._migrations").await,
        "0001_init\ttheirs",
        "the platform's ledger is its own"
    );
    let added = pair
        .pg(
            "SELECT table_name, column_name, is_nullable FROM information_schema.columns
             WHERE column_name IN ('identified_at', 'property_versions') ORDER BY 1",
        )
        .await;
    assert_eq!(
        added,
        [
            "person_distinct_ids identified_at YES",
            "persons property_versions YES"
        ]
    );
    let added = pair
        .ch("SELECT groupArray(name) FROM (SELECT name FROM system.columns WHERE database = '@' AND table = 'events'
             ORDER BY position DESC LIMIT 3)")
        .await;
    assert_eq!(added, "['theirs','ip','batch_id']");
    let settings = pair
        .ch("SELECT engine_full FROM system.tables WHERE database = '@' AND name = 'events'")
        .await;
    assert!(
        settings.contains("non_replicated_deduplication_window = 1000"),
        "{settings}"
    );
    // The projection still takes rows.
    pair.ch(
        "INSERT INTO @.events (project_id, event_name, distinct_id, timestamp, ip)
             VALUES (generateUUIDv4(), 'new', 'd', now64(3), '192.0.2.1')",
    )
    .await;
    assert_eq!(
        pair.ch("SELECT ip FROM @.events WHERE event_name = 'new'").await,
        "192.0.2.1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_use_delays_migrating_and_nobody_waits_long_behind_it() {
    let world = World::start().await;
    let pair = platform(&world, "in_use").await;
    let reader = pair.client().await;
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM persons")
        .await
        .unwrap();
    let text =
        std::thread::scope(|scope| {
            let migrating = scope.spawn(|| pair.migrate());
            let waiting =
                async {
                    eventually("migrate waits for the table", Duration::from_secs(30), async || {
                !pair.pg("SELECT 1 FROM pg_locks WHERE relation = 'persons'::regclass AND NOT granted")
                    .await
                    .is_empty()
            })
            .await;
                    let other = pair.pg("SELECT count(*) FROM persons");
                    tokio::time::timeout(Duration::from_secs(15), other)
                        .await
                        .expect("a reader that came later is served while migrate still waits");
                    assert!(!migrating.is_finished());
                    reader.batch_execute("COMMIT").await.unwrap();
                };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(waiting));
            migrating.join().unwrap()
        });
    assert_eq!(count(&text, "applied now"), ALL, "{text}");
}
