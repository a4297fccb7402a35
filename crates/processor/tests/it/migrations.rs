//! `migrate` and `check`, on databases that are empty, half there, the platform's, or not ours to extend.

use std::time::Duration;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::support::{STREAM, World, eventually};

/// Migrations of both databases.
const ALL: usize = 13;

/// A pair of databases in a world's services, apart from the world's own.
struct Pair<'a> {
    world: &'a World,
    name: &'static str,
    database_url: String,
}

impl<'a> Pair<'a> {
    /// Creates neither database.
    fn new(world: &'a World, name: &'static str) -> Self {
        let mut url = world.stack.database_url().unwrap();
        url.truncate(url.rfind('/').unwrap());
        Self {
            world,
            name,
            database_url: format!("{url}/{name}"),
        }
    }

    /// Creates both, empty.
    async fn created(world: &'a World, name: &'static str) -> Self {
        world.pg(&format!("CREATE DATABASE {name}")).await;
        world.ch(&format!("CREATE DATABASE {name}")).await;
        Self::new(world, name)
    }

    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let environment = [
            ("DATABASE_URL", self.database_url.as_str()),
            ("CLICKHOUSE_DB", self.name),
        ];
        self.world.run(arguments, &environment)
    }

    fn migrate(&self) -> String {
        let (ok, text) = self.run(&["migrate"]);
        assert!(ok, "{text}");
        text
    }

    /// Without any project no event could be right.
    async fn with_project(&self) {
        self.pg("INSERT INTO projects (name) VALUES ('test')").await;
    }

    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.database_url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// PostgreSQL's answer: the columns of each row, joined by a space.
    async fn pg(&self, sql: &str) -> Vec<String> {
        let messages = self.client().await.simple_query(sql).await;
        let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let columns: Vec<&str> = (0..row.len()).map(|n| row.get(n).unwrap_or("NULL")).collect();
                Some(columns.join(" "))
            }
            _ => None,
        });
        rows.collect()
    }

    /// ClickHouse's answer; `@` in the statement stands for this database, `'@` for its name at a text's beginning.
    async fn ch(&self, sql: &str) -> String {
        let as_text = sql.replace("'@", &format!("'{}", self.name));
        self.world
            .ch(&as_text.replace('@', &format!("`{}`", self.name)))
            .await
    }

    async fn tables(&self) -> [Vec<String>; 2] {
        let in_pg = self
            .pg("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            .await;
        let in_ch = self
            .ch("SELECT name FROM system.tables WHERE database = '@' ORDER BY name")
            .await;
        [in_pg, in_ch.lines().map(str::to_owned).collect()]
    }
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

#[tokio::test]
async fn databases_that_do_not_exist_are_created_with_everything_in_them() {
    let world = World::start().await;
    let pair = Pair::new(&world, "fresh");
    let first = pair.migrate();
    assert_eq!(count(&first, "applied now"), ALL, "{first}");
    let [in_pg, in_ch] = pair.tables().await;
    let expected = [
        "cohorts",
        "event_definitions",
        "event_properties",
        "person_distinct_ids",
        "persons",
        "processor_merges",
        "processor_migrations",
        "processor_person_overrides",
        "processor_person_redirects",
        "projects",
        "property_definitions",
        "users",
    ];
    assert_eq!(in_pg, expected);
    let expected = [
        "_processor_migrations",
        "cohort_members",
        "cohort_membership_history",
        "events",
        "ingestion_warnings",
        "person_distinct_id_overrides",
        "person_overrides_dict",
        "person_static_cohort",
    ];
    assert_eq!(in_ch, expected);
    let events = pair
        .ch("SELECT engine_full FROM system.tables WHERE database = '@' AND name = 'events'")
        .await;
    for part in [
        "ReplacingMergeTree(ingested_at) PARTITION BY toYYYYMM(timestamp)",
        "ORDER BY (project_id, event_name, timestamp, event_id) TTL toDateTime(timestamp) + toIntervalDay(365)",
        "deduplicate_merge_projection_mode = \\'rebuild\\'",
        "non_replicated_deduplication_window = 1000",
    ] {
        assert!(events.contains(part), "{part}: {events}");
    }
    let second = pair.migrate();
    assert_eq!(count(&second, "already applied"), ALL, "{second}");
    pair.with_project().await;
    for check in [["migrate", "--check"], ["check", "--json"]] {
        let (ok, text) = pair.run(&check);
        assert!(ok, "{text}");
    }
}

#[tokio::test]
async fn the_dictionary_answers_with_the_highest_version_and_is_made_again_when_dropped() {
    let world = World::start().await;
    let pair = Pair::new(&world, "with-hyphen");
    pair.migrate();
    pair.ch(
        "INSERT INTO @.person_distinct_id_overrides
         SELECT toUUID('11111111-1111-1111-1111-111111111111'), 'd', toUUID(person), version
         FROM VALUES('person String, version UInt64', ('00000000-0000-0000-0000-000000000002', 2),
                     ('00000000-0000-0000-0000-000000000003', 3), ('00000000-0000-0000-0000-000000000001', 1))",
    )
    .await;
    let asked = "SELECT dictGetOrNull('@.person_overrides_dict', 'person_id',
                     (toUUID('11111111-1111-1111-1111-111111111111'), arrayJoin(['d', 'unmoved'])))";
    let answer = "00000000-0000-0000-0000-000000000003\n\\N";
    pair.ch("SYSTEM RELOAD DICTIONARY @.person_overrides_dict").await;
    assert_eq!(pair.ch(asked).await, answer);

    pair.ch("DROP DICTIONARY @.person_overrides_dict").await;
    let (ok, text) = pair.run(&["check"]);
    assert!(!ok && text.contains("0004_person_overrides_dict"), "{text}");
    let again = pair.migrate();
    assert_eq!(count(&again, "applied now"), 1, "{again}");
    assert_eq!(pair.ch(asked).await, answer);
}

#[tokio::test]
async fn migrate_check_exits_1_when_behind_and_changes_nothing() {
    let world = World::start().await;
    let pair = Pair::created(&world, "behind").await;
    let (ok, text) = pair.run(&["migrate", "--check"]);
    assert!(!ok && text.contains("run `qurvo-processor migrate`"), "{text}");
    assert_eq!(
        count(&text, "pending"),
        ALL - 1,
        "all but the optional one: {text}"
    );
    assert_eq!(pair.tables().await, [Vec::<String>::new(), Vec::new()]);
}

#[tokio::test]
async fn of_two_at_once_one_migrates_and_the_other_finds_it_done() {
    let world = World::start().await;
    let pair = Pair::new(&world, "raced");
    let texts = std::thread::scope(|scope| {
        let runs = [scope.spawn(|| pair.migrate()), scope.spawn(|| pair.migrate())];
        runs.map(|run| run.join().unwrap())
    });
    let all = texts.concat();
    assert_eq!(count(&all, "applied now"), ALL, "{all}");
    assert_eq!(count(&all, "already applied"), ALL, "{all}");
}

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

#[tokio::test]
async fn a_migration_applied_in_another_form_is_refused_by_name() {
    let world = World::start().await;
    world
        .ch("INSERT INTO _processor_migrations (name, checksum, applied_at)
             VALUES ('0005_cohorts', 'other', now() + 60)")
        .await;
    for arguments in [["migrate"].as_slice(), &["migrate", "--check"], &["check"]] {
        let (ok, text) = world.run(arguments, &[]);
        assert!(
            !ok && text.contains("0005_cohorts") && text.contains("another form"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn without_the_right_to_the_trigram_extension_it_goes_on_and_says_so() {
    let world = World::start().await;
    let owner = Pair::created(&world, "no_extension").await;
    owner
        .pg("CREATE ROLE plain LOGIN PASSWORD 'plain'; GRANT CREATE, USAGE ON SCHEMA public TO plain")
        .await;
    let (_, server) = owner.database_url.split_once('@').unwrap();
    let pair = Pair {
        database_url: format!("postgresql://plain:plain@{server}"),
        ..Pair::new(&world, owner.name)
    };
    for _ in 0..2 {
        let text = pair.migrate();
        assert!(
            text.contains("skipped") && text.contains("permission denied"),
            "{text}"
        );
        assert!(pair.run(&["migrate", "--check"]).0);
        owner.with_project().await;
        assert!(pair.run(&["check"]).0);
    }
    owner.pg("CREATE EXTENSION pg_trgm").await;
    let text = pair.migrate();
    assert_eq!(count(&text, "applied now"), 1, "{text}");
    let indexes = pair
        .pg("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%gin_trgm_ops%' ORDER BY 1")
        .await;
    assert_eq!(indexes.len(), 2, "{indexes:?}");
}

#[tokio::test]
async fn check_names_the_first_thing_wrong_with_a_stream_or_a_table() {
    let world = World::start().await;
    let findings = |arguments: &[(&str, &str)]| {
        let (ok, text) = world.run(&["check", "--json"], arguments);
        let findings: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        let last = findings.as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["ok"], ok);
        assert!(last["ms"].is_u64());
        (ok, last["detail"].as_str().unwrap().to_owned())
    };
    let (ok, detail) = findings(&[("PROCESSOR_TRIM", "off")]);
    assert!(
        ok && detail.contains("not there yet") && detail.contains("PROCESSOR_TRIM=off"),
        "{detail}"
    );
    let (ok, detail) = findings(&[("PROCESSOR_STREAM", "a_text")]);
    assert!(ok, "{detail}");
    let mut redis = world.redis.clone();
    let () = redis::cmd("SET")
        .arg("a_text")
        .arg("1")
        .query_async(&mut redis)
        .await
        .unwrap();
    let (ok, detail) = findings(&[("PROCESSOR_STREAM", "a_text")]);
    assert!(!ok && detail.contains("a_text is a string"), "{detail}");

    let fill = "for n = 1, 10000 do redis.call('XADD', KEYS[1], '*', 'a', '') end";
    for _ in 0..90 {
        let command = redis::cmd("EVAL").arg(fill).arg(1).arg(STREAM).to_owned();
        let () = command.query_async(&mut redis).await.unwrap();
    }
    let (ok, detail) = findings(&[]);
    assert!(!ok && detail.contains("900000 entries"), "{detail}");
    let _deleted: u64 = redis::cmd("DEL")
        .arg(STREAM)
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(findings(&[]).0);

    world
        .ch("ALTER TABLE ingestion_warnings DROP COLUMN details")
        .await;
    let (ok, detail) = findings(&[]);
    assert!(!ok && detail.contains("details"), "{detail}");
    world
        .pg("ALTER TABLE persons DROP COLUMN property_versions")
        .await;
    let (ok, detail) = findings(&[]);
    assert!(!ok && detail.contains("property_versions"), "{detail}");
}
