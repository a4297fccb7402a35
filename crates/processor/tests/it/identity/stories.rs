//! The stories of identity: shared browsers, chains, unseen ids, flushed caches.

use uuid::Uuid;

use crate::support::{PROJECT, SOON, World};

const NAMESPACE: Uuid = Uuid::from_u128(0xa1b2_c3d4_e5f6_4a7b_8c9d_0e1f_2a3b_4c5d);

fn person(distinct_id: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{PROJECT}:{distinct_id}").as_bytes())
}

#[tokio::test]
async fn every_id_of_a_merged_person_moves_in_all_stores() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[("PROCESSOR_MERGE_POLICY", "always")]);
    for id in ["x1", "x2", "x1"] {
        world.event(id, &[]).await;
    }
    world.identify("x2", "x1").await;
    world.settled(SOON).await;
    let _other = world.worker("w2", &[("PROCESSOR_MERGE_POLICY", "always")]);
    world.identify("u1", "x2").await;
    world.event("x1", &[]).await;
    world.settled(SOON).await;
    for id in ["x1", "x2", "u1"] {
        assert_eq!(world.persons_of(id).await, [Some(person("u1")); 3], "{id}");
    }
    assert_eq!(world.pg("SELECT count(*) FROM persons").await, ["1"]);
    world.forget_person_keys().await;
    world.event("x1", &[]).await;
    world.settled(SOON).await;
    assert_eq!(world.persons_of("x1").await[0], Some(person("u1")));
    assert_eq!(
        world.pg("SELECT count(*) FROM persons").await,
        ["1"],
        "the merged persons do not come back"
    );
}

#[tokio::test]
async fn a_shared_browser_does_not_merge_two_users() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world.identify("u1", "z").await;
    world.identify("u2", "z").await;
    world.event("z", &[]).await;
    world.settled(SOON).await;
    assert_eq!(world.persons_of("u1").await[0], Some(person("u1")));
    assert_eq!(world.persons_of("u2").await[0], Some(person("u2")));
    assert_eq!(world.persons_of("z").await, [Some(person("u1")); 3]);
    let rows = world
        .ch("SELECT person_id FROM events ORDER BY event_name, distinct_id")
        .await;
    let expected = ["u1", "u2", "z"].map(|id| person(if id == "z" { "u1" } else { id }).to_string());
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_anonymous_id_that_nobody_has_seen_is_mapped_at_once() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world.identify("u1", "n").await;
    world.settled(SOON).await;
    assert_eq!(
        world
            .pg("SELECT person_id FROM person_distinct_ids WHERE distinct_id = 'n'")
            .await,
        [person("u1").to_string()]
    );
    world.forget_person_keys().await;
    world.event("n", &[]).await;
    world.settled(SOON).await;
    assert_eq!(world.persons_of("n").await[2], Some(person("u1")));
    assert_eq!(world.pg("SELECT count(*) FROM persons").await, ["1"]);
}

#[tokio::test]
async fn an_older_mapping_beats_the_computed_person() {
    let world = World::start().await;
    let older = Uuid::new_v4();
    world
        .pg(&format!(
            "INSERT INTO persons (id, project_id) VALUES ('{older}', '{PROJECT}')"
        ))
        .await;
    world.pg(&format!("INSERT INTO person_distinct_ids (project_id, person_id, distinct_id) VALUES ('{PROJECT}', '{older}', 'a')")).await;
    let _workers = [world.worker("w1", &[]), world.worker("w2", &[])];
    for _ in 0..20 {
        world.event("a", &[]).await;
    }
    world.settled(SOON).await;
    assert_eq!(world.persons_of("a").await, [Some(older); 3]);
    assert_eq!(world.pg("SELECT count(*) FROM persons").await, ["1"]);
}

#[tokio::test]
async fn late_properties_never_overwrite_newer_ones_and_merges_keep_both_sides() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    let writes = async |who: &str, second: u32, user_properties: &str| {
        let time = format!("2026-11-01T10:00:{second:02}.000Z");
        world
            .event(who, &[("timestamp", &time), ("user_properties", user_properties)])
            .await;
    };
    let identifies = async |user: &str, anonymous: &str, second: u32| {
        let time = format!("2026-11-01T10:00:{second:02}.000Z");
        let fields = [
            ("event_name", "$identify"),
            ("anonymous_id", anonymous),
            ("timestamp", &time),
        ];
        world.event(user, &fields).await;
    };
    let properties = async |user: &str| {
        let sql = format!("SELECT properties FROM persons WHERE id = '{}'", person(user));
        world.pg(&sql).await
    };
    writes("d", 20, r#"{"$set":{"plan":"pro"},"$unset":["tmp"]}"#).await;
    writes("d", 10, r#"{"plan":"free","tmp":1,"n":12345678901234567890}"#).await;
    identifies("u1", "d", 25).await;
    writes("u1", 30, r#"{"$set_once":{"plan":"x","first":true}}"#).await;
    // What comes after the merge in the stream but was before it is taken as it was: the user's own, which stays.
    writes("e", 20, r#"{"$set":{"plan":"pro"}}"#).await;
    identifies("u2", "e", 40).await;
    writes("u2", 30, r#"{"$set_once":{"plan":"x"}}"#).await;
    world.settled(SOON).await;
    assert_eq!(
        properties("u1").await,
        [r#"{"n": 12345678901234567890, "plan": "pro", "first": true}"#]
    );
    assert_eq!(properties("u2").await, [r#"{"plan": "x"}"#]);
}

#[tokio::test]
async fn two_instances_that_identify_in_opposite_directions_agree_in_the_end() {
    let world = World::start().await;
    let _workers = [
        world.worker("w1", &[("PROCESSOR_READ_COUNT", "20")]),
        world.worker("w2", &[("PROCESSOR_READ_COUNT", "20")]),
    ];
    for round in 0..100 {
        let (a, b) = (format!("a{}", round % 10), format!("b{}", round % 7));
        world.event(&a, &[]).await;
        world.event(&b, &[]).await;
        if round % 2 == 0 {
            world.identify(&a, &b).await
        } else {
            world.identify(&b, &a).await
        };
    }
    world.settled(SOON).await;
    for id in (0..10)
        .map(|n| format!("a{n}"))
        .chain((0..7).map(|n| format!("b{n}")))
    {
        let [in_pg, in_redis, in_ch] = world.persons_of(&id).await;
        assert_eq!((in_pg, in_redis), (in_ch, in_ch), "{id}");
    }
    assert_eq!(world.pg("SELECT count(*) FROM persons p WHERE NOT EXISTS (SELECT FROM person_distinct_ids m WHERE m.person_id = p.id)").await, ["0"]);
}

#[tokio::test]
async fn merges_that_the_predecessor_could_not_finish_are_taken_over() {
    let world = World::start().await;
    world
        .pg(&format!(
            r"INSERT INTO persons (id, project_id, properties)
               SELECT md5(name)::uuid, '{PROJECT}', jsonb_build_object('name', name, name, 1)
               FROM unnest(ARRAY['a', 'b', 'c', 'other']) AS name;
               INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
               SELECT '{PROJECT}', md5(name)::uuid, name || n
               FROM unnest(ARRAY['a', 'b', 'c', 'other']) AS name, generate_series(1, 2) n;"
        ))
        .await;
    let id = async |name: &str| {
        world
            .pg(&format!("SELECT md5('{name}')::uuid::text"))
            .await
            .concat()
    };
    let (a, b, c) = (id("a").await, id("b").await, id("c").await);
    let nobody = Uuid::nil().to_string();
    let entry = |from: &str, into: &str| {
        format!(r#"{{"projectId":"{PROJECT}","fromPersonId":"{from}","intoPersonId":"{into}"}}"#)
    };
    // Pushed on the left, so the last one is the oldest.
    let entries = [
        entry(&a, &b),
        "no merge".to_owned(),
        entry(&nobody, &b),
        entry(&a, &nobody),
        entry(&b, &b),
        entry(&a, &b),
        entry(&b, &c),
    ];
    let list = "processor:failed_merges";
    let mut redis = world.redis.clone();
    let _: () = redis::cmd("RPUSH")
        .arg(list)
        .arg(&entries)
        .query_async(&mut redis)
        .await
        .unwrap();
    let _worker = world.worker("w1", &[]);
    crate::support::eventually("the list is empty", SOON, async || {
        let left: u64 = redis::cmd("LLEN")
            .arg(list)
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        left == 0
    })
    .await;
    let persons = "SELECT properties::text FROM persons ORDER BY 1";
    crate::support::eventually("b and then a went into c", SOON, async || {
        world.pg(persons).await
            == [
                r#"{"a": 1, "b": 1, "c": 1, "name": "c"}"#,
                r#"{"name": "other", "other": 1}"#,
            ]
    })
    .await;
    for moved in ["a1", "a2", "b1", "b2", "c2"] {
        world.event(moved, &[]).await;
    }
    world.settled(SOON).await;
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
    let mapped = format!("SELECT count(*) FROM person_distinct_ids WHERE person_id = '{c}'");
    assert_eq!(world.pg(&mapped).await, ["6"]);
}

#[tokio::test]
async fn a_mapping_that_was_lost_leads_where_its_person_went_however_many_merges_ago() {
    let world = World::start().await;
    let always = [("PROCESSOR_MERGE_POLICY", "always")];
    let mut worker = world.worker("w1", &always);
    for id in ["a", "b", "c"] {
        world.event(id, &[]).await;
    }
    world.identify("b", "a").await;
    world.settled(SOON).await;
    world.identify("c", "b").await;
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let lose_a = async || {
        world
            .pg("DELETE FROM person_distinct_ids WHERE distinct_id = 'a'")
            .await;
        world.forget_person_keys().await;
    };
    lose_a().await;
    let mut worker = world.worker("w2", &always);
    world.event("a", &[]).await;
    world.settled(SOON).await;
    assert_eq!(world.persons_of("a").await, [Some(person("c")); 3]);
    assert_eq!(world.pg("SELECT count(*) FROM persons").await, ["1"]);
    worker.terminate();
    assert!(worker.ended(SOON).await.success());

    // Redirects in a circle, as a restored backup may leave them, of which only one person exists.
    world
        .pg(&format!(
            "INSERT INTO processor_person_redirects (project_id, from_person, into_person) VALUES ('{PROJECT}', '{}', '{}')",
            person("c"),
            person("a")
        ))
        .await;
    lose_a().await;
    let _worker = world.worker("w3", &always);
    world.event("a", &[]).await;
    world.settled(SOON).await;
    assert_eq!(world.persons_of("a").await, [Some(person("c")); 3]);
    assert_eq!(world.pg("SELECT count(*) FROM persons").await, ["1"]);
}

#[tokio::test]
async fn a_merge_that_comes_late_finds_the_side_it_belongs_to() {
    let world = World::start().await;
    let always = [("PROCESSOR_MERGE_POLICY", "always")];
    let mut worker = world.worker("w1", &always);
    world.event("a", &[("user_properties", r#"{"k":"of a"}"#)]).await;
    world.event("b", &[("user_properties", r#"{"k":"of b"}"#)]).await;
    world.event("c", &[]).await;
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());

    // Somebody takes the first merge and dies with it; the second one comes first.
    world.identify("b", "a").await;
    let taken: redis::streams::StreamReadReply = redis::cmd("XREADGROUP")
        .arg("GROUP")
        .arg("processor-group")
        .arg("dead")
        .arg("STREAMS")
        .arg("events:incoming")
        .arg(">")
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    assert_eq!(taken.keys[0].ids.len(), 1);
    world.identify("c", "b").await;
    let _worker = world.worker("w2", &always);
    world.settled(SOON).await;
    assert_eq!(world.persons_of("a").await, [Some(person("c")); 3]);
    let properties = world.pg("SELECT properties::text FROM persons").await;
    assert_eq!(properties, [r#"{"k": "of b"}"#], "b is who a was merged into");
}
