//! A row that ClickHouse does not take is found, and nothing else is blamed for it, whichever insert it is in.

use uuid::Uuid;

use crate::lying::{About, Answer, Liar, Lie};
use crate::support::{GROUP, PROJECT, QUEUE, REJECTED, SOON, STREAM, World, ask, eventually};

/// An event that the engine fails on, for a reason that may pass.
const BAD: &str = "the bad one";

async fn lands_but_for(bad: usize, send: impl AsyncFn(&World)) {
    let world = World::start().await;
    let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
    let refused = Answer::refusal(241, "Memory limit exceeded");
    liar.tell(Lie::about(About::InsertsInto("events"), refused).holding(BAD));
    let sent = world.load(20, 5).await;
    send(&world).await;
    let through_the_liar = [
        ("CLICKHOUSE_URL", liar.url.as_str()),
        ("PROCESSOR_ROLES", "consume"),
    ];
    let worker = world.worker("one", &through_the_liar);
    eventually("all has its end", SOON * 2, async || {
        world.unsettled().await == Some(0)
    })
    .await;
    assert_eq!(world.length(QUEUE).await, Some(bad as u64), "{}", worker.log());
    assert_eq!(world.length(REJECTED).await, Some(0));
    world.holds_exactly(&sent).await;
    let log = worker.log();
    assert!(log.contains("an event was set aside alone"), "{log}");
    assert!(!log.contains("batch set aside"), "{log}");
}

/// Each with the whole preset they would take three minutes.
#[tokio::test(flavor = "multi_thread")]
async fn many_copies_of_an_event_that_fails_are_soon_set_aside_alone() {
    const COPIES: usize = 60;
    let id = Uuid::new_v4().to_string();
    lands_but_for(COPIES, async |world| {
        for _ in 0..COPIES {
            let fields = [
                ("event_id", id.as_str()),
                ("project_id", PROJECT),
                ("event_name", BAD),
                ("distinct_id", "d"),
                ("timestamp", "2026-11-01T10:00:00.000Z"),
            ];
            world.add(&fields).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_event_that_is_inserted_by_itself_and_fails_is_set_aside_alone() {
    let large = "x".repeat(9 << 20);
    lands_but_for(1, async |world| {
        world.event("d", &[("event_name", BAD), ("url", &large)]).await;
    })
    .await;
}

#[tokio::test]
async fn no_event_is_blamed_because_rows_before_it_were_another_instances() {
    const EVENTS: usize = 200;
    let world = World::start().await;
    // The instance gets no further than to PostgreSQL.
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE projects, persons IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut entries = Vec::new();
    for n in 0..EVENTS {
        let fields = [
            ("project_id", PROJECT),
            ("event_name", "x"),
            ("distinct_id", &format!("d{}", n % 5)),
        ];
        entries.push(world.add(&fields).await);
    }
    let worker = world.worker("one", &[("PROCESSOR_ROLES", "consume")]);
    eventually("it holds them", SOON, async || {
        let pending: redis::RedisResult<redis::streams::StreamPendingCountReply> = redis::cmd("XPENDING")
            .arg(&[STREAM, GROUP, "-", "+", "1000", "one"])
            .query_async(&mut world.redis.clone())
            .await;
        pending.is_ok_and(|pending| pending.ids.len() == EVENTS)
    })
    .await;
    let theirs = &entries[..EVENTS / 2];
    let mut claim: Vec<&str> = vec![STREAM, GROUP, "another", "0"];
    claim.extend(theirs.iter().map(String::as_str));
    claim.push("JUSTID");
    let claimed: Vec<String> = ask(&world, "XCLAIM", &claim).await;
    assert_eq!(claimed.len(), theirs.len());
    eventually("the instance knows", SOON, async || {
        worker.log().contains("belong to another instance now")
    })
    .await;
    let mut done: Vec<&str> = vec![STREAM, GROUP];
    done.extend(theirs.iter().map(String::as_str));
    let _: u64 = ask(&world, "XACK", &done).await;
    // No row at all is taken: the table is wrong, and no event.
    world
        .ch("ALTER TABLE events ADD CONSTRAINT wrong CHECK event_name = ''")
        .await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    eventually("they are set aside, or rejected", SOON * 2, async || {
        world.unsettled().await == Some(0)
    })
    .await;
    assert_eq!(world.length(REJECTED).await, Some(0), "{}", worker.log());
    assert_eq!(world.length(QUEUE).await, Some(EVENTS as u64));
}
