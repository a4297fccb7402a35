//! `person show` and `person audit`: they see what is wrong, and mend it.

use serde_json::Value;

use crate::support::{PROJECT, SOON, World};

async fn three_people() -> World {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    for who in ["it's a", "Ж", "c"] {
        let set = [("user_properties", r#"{"plan":"pro"}"#)];
        world.event(who, &set).await;
    }
    world
        .event("visitor", &[("user_properties", r#"{"ref":"ad"}"#)])
        .await;
    world.identify("it's a", "visitor").await;
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    world
}

fn audit(world: &World, arguments: &[&str]) -> (bool, Value) {
    let arguments = [&["person", "audit", "--json"], arguments].concat();
    let (ok, text) = world.run(&arguments, &[]);
    (ok, serde_json::from_str(text.lines().next().unwrap()).unwrap())
}

fn show(world: &World, who: &str) -> (bool, String) {
    world.run(&["person", "show", PROJECT, who], &[])
}

#[tokio::test]
async fn show_tells_the_story_of_a_person() {
    let world = three_people().await;
    let (ok, text) = show(&world, "visitor");
    assert!(ok, "{text}");
    for told in [
        "the stores agree",
        "by override",
        "\"plan\": \"pro\"",
        "\"ref\": \"ad\"",
        "it's a",
        "w1",
    ] {
        assert!(text.contains(told), "{told} is not in {text}");
    }
    let (ok, json) = world.run(&["person", "show", PROJECT, "it's a", "--json"], &[]);
    let person: Value = serde_json::from_str(json.trim()).unwrap();
    assert!(ok && person["agree"] == true, "{json}");
    assert_eq!(person["merges"].as_array().unwrap().len(), 1);
    assert_eq!(person["merges"][0]["anonymous_id"], "visitor");
    assert_eq!(person["distinct_ids"].as_array().unwrap().len(), 2);
    let (ok, text) = show(&world, "nobody");
    assert!(!ok && text.contains("no store knows"), "{text}");
}

#[tokio::test]
async fn show_tells_in_sentences_who_was_joined_and_who_was_not_oldest_first() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    for who in ["anon-1", "anon-2", "anna", "bob"] {
        world.event(who, &[]).await;
    }
    world.settled(SOON).await;
    world.identify("anna", "anon-1").await;
    world.settled(SOON).await;
    let second = world.identify("anna", "anon-2").await;
    world.settled(SOON).await;
    let refused = world.identify("bob", "anon-1").await;
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    for who in ["anna", "bob"] {
        let (ok, text) = show(&world, who);
        assert!(ok, "{text}");
        let told = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let at = |part: &str| {
            told.find(part)
                .unwrap_or_else(|| panic!("{part} is not in {text}"))
        };
        let apart = at(
            "\"bob\" and \"anon-1\" were NOT joined: an $identify of \"bob\" asked for it, but \"anon-1\" belonged",
        );
        assert!(
            told[apart..].contains(&format!("(event {refused}, entry ")),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        if who == "bob" {
            assert!(!told.contains("were joined by"), "{text}");
            continue;
        }
        let first = at("\"anna\" and \"anon-1\" were joined by an $identify of \"anna\": person ");
        let next = at("\"anna\" and \"anon-2\" were joined by an $identify of \"anna\": person ");
        assert!(first < next && next < apart, "{text}");
        assert!(
            told[next..apart].contains(&format!("(event {second}, entry ")),
            "{text}"
        );
        assert!(
            told.contains("became part of person") && told.contains("instance w1)"),
            "{text}"
        );
    }
    let (_, json) = world.run(&["person", "show", PROJECT, "anon-1", "--json"], &[]);
    let person: Value = serde_json::from_str(json.trim()).unwrap();
    let apart = &person["refused_merges"];
    assert_eq!(apart.as_array().unwrap().len(), 1, "{apart}");
    assert_eq!(
        (
            &apart[0]["distinct_id"],
            &apart[0]["anonymous_id"],
            &apart[0]["event_id"]
        ),
        (&"bob".into(), &"anon-1".into(), &refused.to_string().into())
    );
    assert_eq!(person["merges"].as_array().unwrap().len(), 2);
    let (_, text) = world.run(&["person", "show", PROJECT, "anon-1"], &[]);
    assert!(text.contains("By override: rows keep the person"), "{text}");
}

#[tokio::test]
async fn audit_finds_and_mends_every_disagreement() {
    let world = three_people().await;
    let (ok, findings) = audit(&world, &[]);
    assert!(ok, "{findings}");
    assert_eq!(findings["compared"], 4);

    let stranger = "99999999-9999-4999-8999-999999999999";
    let _: () = redis::cmd("SET")
        .arg(format!("person:{PROJECT}:c"))
        .arg(stranger)
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    // A version from far in the future must not stop the repair.
    world
        .ch(&format!(
            "INSERT INTO person_distinct_id_overrides VALUES ('{PROJECT}', 'Ж', '{stranger}', 9000000000000000000)"
        ))
        .await;
    world
        .pg("DELETE FROM person_distinct_ids WHERE distinct_id = 'visitor'")
        .await;
    let (ok, text) = show(&world, "Ж");
    assert!(!ok && text.contains("DISAGREE"), "{text}");
    let (ok, findings) = audit(&world, &["--project", PROJECT]);
    assert!(!ok, "{findings}");
    for kind in ["clickhouse", "redis", "unmapped"] {
        assert_eq!(findings["disagreements"][kind], 1, "{findings}");
    }
    let (ok, findings) = audit(&world, &["--repair"]);
    assert!(ok && findings["mended"] == 3, "{findings}");
    let (ok, findings) = audit(&world, &[]);
    assert!(ok && findings["compared"] == 4, "{findings}");
    assert_eq!(
        world.persons_of("visitor").await,
        world.persons_of("it's a").await,
        "the mapping is back where it was"
    );
}

#[tokio::test]
async fn audit_of_a_million_mappings_ends_and_takes_little_memory() {
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO persons (id, project_id)
             SELECT md5(n::text)::uuid, '{PROJECT}' FROM generate_series(1, 1000000) n;
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
             SELECT '{PROJECT}', md5(n::text)::uuid, 'visitor ' || n FROM generate_series(1, 1000000) n;"
        ))
        .await;
    world
        .ch(&format!(
            "INSERT INTO events (project_id, event_name, distinct_id, person_id, timestamp)
             SELECT '{PROJECT}', 'x', 'visitor ' || toString(number + 1),
                    toUUID(lower(hex(MD5(toString(if(number % 250000 = 9, 0, number + 1)))))), now64(3)
             FROM numbers(1000000)"
        ))
        .await;
    // Before all, between two, at what divides them, and behind all of those that have a mapping.
    world
        .ch(&format!(
            "INSERT INTO events (project_id, event_name, distinct_id, person_id, timestamp)
             SELECT '{PROJECT}', 'x', arrayJoin(['a visitor', 'visitor 1x', 'visitor 54999x', 'visitor 549999x', 'z visitor']),
                    generateUUIDv4(), now64(3)"
        ))
        .await;
    let (ok, peak, text) = world.measured(&["person", "audit", "--json"]);
    assert!(!ok, "{text}");
    let findings: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(findings["compared"], 1_000_005);
    assert_eq!(findings["disagreements"]["unmapped"], 5, "{findings}");
    assert_eq!(findings["disagreements"]["clickhouse"], 4, "{findings}");
    assert!(peak < 100, "{peak} MB");
}
