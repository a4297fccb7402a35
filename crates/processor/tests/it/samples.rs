//! The sample events against the generator's own account of what must come out: an independent opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use sample_events::{Account, COHORTS, PROJECTS, load_account};
use uuid::Uuid;

use crate::support::World;

pub(crate) fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
        .display()
        .to_string()
}

async fn world_with_samples(batches: &[(&str, &str)]) -> (World, Account) {
    let world = World::start().await;
    for project in PROJECTS {
        world
            .pg(&format!(
                "INSERT INTO projects (id, name) VALUES ('{}', '{}')",
                project.id, project.name
            ))
            .await;
    }
    for cohort in COHORTS {
        world
            .pg(&format!(
                "INSERT INTO users (id, email, password_hash, display_name)
                 VALUES ('{0}', '{0}@b.example', '', '') ON CONFLICT DO NOTHING;
                 INSERT INTO cohorts (id, project_id, created_by, name, definition)
                 VALUES ('{1}', '{0}', '{0}', '{2}', '{3}')",
                cohort.project, cohort.id, cohort.name, cohort.definition
            ))
            .await;
    }
    let sent = world.run(&["send", "--rebase", &fixture(sample_events::EVENTS_FILE)], &[]);
    assert!(sent.0, "{}", sent.1);
    let mut worker = world.worker("w1", batches);
    world.settled(Duration::from_mins(1)).await;
    worker.terminate();
    assert!(
        worker.ended(Duration::from_secs(20)).await.success(),
        "{}",
        worker.log()
    );
    (world, load_account(fixture(sample_events::ACCOUNT_FILE)).unwrap())
}

#[tokio::test]
async fn the_samples_land_as_their_account_says() {
    let (world, account) = world_with_samples(&[]).await;
    agrees(&world, &account).await;
}

#[tokio::test]
async fn the_samples_land_the_same_in_small_batches() {
    let small = [
        ("PROCESSOR_BATCH_SIZE", "37"),
        ("PROCESSOR_MAX_BATCH_SIZE", "53"),
        ("PROCESSOR_READ_COUNT", "41"),
    ];
    let (world, account) = world_with_samples(&small).await;
    agrees(&world, &account).await;
}

async fn agrees(world: &World, account: &Account) {
    let counts = world.ch("SELECT count(), uniqExact(event_id) FROM events").await;
    assert_eq!(
        counts,
        format!("{0}\t{0}", account.events),
        "rows without FINAL, distinct events"
    );
    for (project, expected) in &account.projects {
        let one = async |sql: &str| world.pg(&sql.replace("$p", project)).await.concat();
        assert_eq!(
            one("SELECT count(*) FROM persons WHERE project_id = '$p'").await,
            expected.persons.to_string()
        );
        assert_eq!(
            one("SELECT count(*) FROM processor_merges WHERE project_id = '$p'").await,
            expected.merges.to_string()
        );
        // A refused identify that is delivered twice is told twice.
        let refused = format!(
            "SELECT count() FROM ingestion_warnings WHERE project_id = '{project}' AND type = 'merge_refused'"
        );
        let refused: usize = world.ch(&refused).await.parse().unwrap();
        assert!(
            refused >= expected.merges_refused,
            "{refused} of {} refused merges are told",
            expected.merges_refused
        );

        let names = format!(
            "SELECT event_name, count() FROM events WHERE project_id = '{project}'
             GROUP BY 1 ORDER BY 1 FORMAT JSONCompactEachRow"
        );
        let names: BTreeMap<String, usize> = world
            .ch(&names)
            .await
            .lines()
            .map(|line| serde_json::from_str::<(String, serde_json::Value)>(line).unwrap())
            .map(|(name, count)| (name, count.to_string().trim_matches('"').parse().unwrap()))
            .collect();
        assert_eq!(names, expected.event_names);

        let mappings = "SELECT json_build_array(distinct_id, person_id) FROM person_distinct_ids WHERE project_id = '$p'";
        let mappings: BTreeMap<String, Uuid> = world
            .pg(&mappings.replace("$p", project))
            .await
            .iter()
            .map(|row| serde_json::from_str(row).unwrap())
            .collect::<Vec<(String, Uuid)>>()
            .into_iter()
            .collect();
        assert_eq!(mappings, expected.mappings);

        people(world, project, expected).await;
        catalogue(world, project, expected).await;
    }
    let members = cohorts(world, account).await;
    summary_agrees(world, account, members);
}

/// Members of the sample cohorts, against a plainer question to the same rows, or the account. Returns how many there are
/// in all.
async fn cohorts(world: &World, account: &Account) -> usize {
    let (done, said) = world.run(&["cohorts", "recompute"], &[]);
    assert!(done, "{said}");
    let members = async |name: &str| -> BTreeSet<Uuid> {
        let cohort = COHORTS.iter().find(|cohort| cohort.name == name).unwrap();
        let version = format!(
            "SELECT membership_version FROM cohorts WHERE id = '{}'",
            cohort.id
        );
        let version = world.pg(&version).await.concat();
        let sql = format!(
            "SELECT person_id FROM cohort_members WHERE cohort_id = '{}' AND version = {version}",
            cohort.id
        );
        let members = world.ch(&sql).await;
        members.lines().map(|id| id.parse().unwrap()).collect()
    };
    let who_did = async |project: &str, event: &str| -> BTreeSet<Uuid> {
        let sql = format!(
            "SELECT DISTINCT coalesce(dictGetOrNull('person_overrides_dict', 'person_id', (project_id, distinct_id)), person_id)
             FROM events WHERE project_id = '{project}' AND event_name = '{event}'"
        );
        let persons = world.ch(&sql).await;
        persons.lines().map(|id| id.parse().unwrap()).collect()
    };
    let shop = COHORTS[0].project;
    let buyers = who_did(shop, "order_completed").await;
    let lookers: BTreeSet<Uuid> = &who_did(shop, "product_viewed").await - &buyers;
    assert!(!buyers.is_empty() && !lookers.is_empty());
    assert_eq!(members("Buyers").await, buyers);
    assert_eq!(members("Looked and never bought").await, lookers);
    let is_pro = |person: &sample_events::PersonAccount| {
        person.properties.get("plan").and_then(|plan| plan.as_str()) == Some("pro")
    };
    let people = &account.projects[shop].people;
    let pro: BTreeSet<Uuid> = people
        .iter()
        .filter(|(_, p)| is_pro(p))
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(members("On the plan pro").await, pro);
    let reports = members("From a page to a report").await;
    assert!(!reports.is_empty());
    buyers.len() + lookers.len() + pro.len() + reports.len()
}

/// The summary that `./dev run` ends in names the account's numbers.
fn summary_agrees(world: &World, account: &Account, cohort_members: usize) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/summary.py");
    let output = std::process::Command::new("python3")
        .args([script.as_os_str(), "10".as_ref()])
        .envs(world.stack.env())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let all = |count: fn(&sample_events::ProjectAccount) -> usize| -> usize {
        account.projects.values().map(count).sum()
    };
    for (name, value) in [
        ("events", "11,800 rows, 11,800 distinct".to_owned()),
        ("projects", account.projects.len().to_string()),
        ("persons", all(|project| project.persons).to_string()),
        ("distinct ids", all(|project| project.distinct_ids).to_string()),
        ("merges", all(|project| project.merges).to_string()),
        (
            "event names",
            all(|project| project.event_definitions.len()).to_string(),
        ),
        (
            "property names",
            all(|project| project.property_definitions.len()).to_string(),
        ),
        (
            "cohort members",
            format!("{cohort_members} in {} cohorts", COHORTS.len()),
        ),
        ("rate", "1,180 events/s, sending included".to_owned()),
    ] {
        let line = format!("  {name:<18} {value}");
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}

/// Event and property definitions.
async fn catalogue(world: &World, project: &str, expected: &sample_events::ProjectAccount) {
    let rows = async |sql: &str| world.pg(&sql.replace("$p", project)).await;
    let events = rows("SELECT event_name FROM event_definitions WHERE project_id = '$p'").await;
    assert_eq!(BTreeSet::from_iter(events), expected.event_definitions);
    let properties = rows(
        "SELECT concat_ws(' ', property_name, property_type, value_type, is_numerical)
         FROM property_definitions WHERE project_id = '$p'",
    )
    .await;
    let expected_properties = expected.property_definitions.iter().map(|(name, value_type)| {
        let kind = sample_events::property_type(name);
        let numerical = if *value_type == Some(sample_events::ValueType::Numeric) {
            "t"
        } else {
            "f"
        };
        match value_type {
            Some(value_type) => format!("{name} {kind} {} {numerical}", value_type.as_str()),
            None => format!("{name} {kind} {numerical}"),
        }
    });
    assert_eq!(BTreeSet::from_iter(properties), expected_properties.collect());
    let event_properties = rows(
        "SELECT concat_ws(' ', event_name, property_name, property_type) FROM event_properties WHERE project_id = '$p'",
    )
    .await;
    let expected_properties = expected.event_properties.iter().flat_map(|(event, names)| {
        let names = names.iter();
        names.map(move |name| format!("{event} {name} {}", sample_events::property_type(name)))
    });
    assert_eq!(
        BTreeSet::from_iter(event_properties),
        expected_properties.collect()
    );
}

/// Events by person, as a reader sees them, and every person's properties.
async fn people(world: &World, project: &str, expected: &sample_events::ProjectAccount) {
    // A cohort run may have loaded it while the samples were landing; it is loaded again within a minute.
    world.ch("SYSTEM RELOAD DICTIONARY person_overrides_dict").await;
    let events = world
        .ch(&format!(
            "SELECT coalesce(dictGetOrNull('person_overrides_dict', 'person_id', (project_id, distinct_id)), person_id) AS person,
                    count()
             FROM events WHERE project_id = '{project}' GROUP BY person"
        ))
        .await;
    let events: BTreeMap<Uuid, usize> = events
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(person, count)| (person.parse().unwrap(), count.parse().unwrap()))
        .collect();
    let expected_events: BTreeMap<Uuid, usize> = expected
        .people
        .iter()
        .map(|(id, person)| (*id, person.events))
        .filter(|(_, events)| *events > 0)
        .collect();
    assert_eq!(events, expected_events, "events by person");

    let rows = format!("SELECT json_build_array(id, properties) FROM persons WHERE project_id = '{project}'");
    for row in world.pg(&rows).await {
        let (id, properties): (Uuid, BTreeMap<String, serde_json::Value>) =
            serde_json::from_str(&row).unwrap();
        assert_eq!(properties, expected.people[&id].properties, "properties of {id}");
    }
}
