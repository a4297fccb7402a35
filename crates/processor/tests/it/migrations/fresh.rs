//! Databases that are empty or not there yet.

use super::{ALL, Pair, count};
use crate::support::World;

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
