//! What a Datadog agent and a `DogStatsD` are told.

use serde_json::Value;

use super::with;
use crate::support::receivers::{Mood, Receiver, Statsd};
use crate::support::{SOON, Worker, World, eventually};

/// Spans as an agent gets them.
fn agent_spans(agent: &Receiver) -> Vec<Value> {
    let traces = agent.taken().into_iter().flat_map(|taken| {
        assert_eq!(taken.path, "/v0.4/traces");
        let traces: Vec<Vec<Value>> = rmp_serde::from_slice(&taken.body).unwrap();
        assert_eq!(
            taken.headers["x-datadog-trace-count"],
            traces.len().to_string().as_str()
        );
        traces.into_iter().flatten().collect::<Vec<_>>()
    });
    traces.collect()
}

async fn an_agent_is_told(world: &World, agent: &Receiver, environment: &[(&str, &str)]) -> Worker {
    let worker = world.worker("w1", environment);
    world.event("d", &[]).await;
    eventually("the agent is told", SOON, async || {
        agent_spans(agent).iter().any(|span| span["resource"] == "batch")
    })
    .await;
    let spans = agent_spans(agent);
    let batch = spans.iter().find(|span| span["resource"] == "batch").unwrap();
    assert_eq!(
        (&batch["service"], &batch["name"]),
        (&"events".into(), &"qurvo.processor".into())
    );
    assert_eq!(
        (&batch["parent_id"], &batch["error"], &batch["type"]),
        (&0.into(), &0.into(), &"worker".into())
    );
    assert_eq!(
        (&batch["meta"]["env"], &batch["meta"]["version"]),
        (&"staging".into(), &"7".into())
    );
    assert_eq!(
        (&batch["meta"]["tier"], &batch["meta"]["consumer"]),
        (&"2".into(), &"w1".into())
    );
    assert_eq!(batch["metrics"]["_sampling_priority_v1"], 1.0);
    assert_eq!(batch["metrics"]["messaging.batch.message_count"], 1.0);
    assert!(batch["duration"].as_i64() > Some(0));
    let insert = spans
        .iter()
        .find(|span| span["resource"] == "inserting events")
        .unwrap();
    let land = spans.iter().find(|span| span["resource"] == "land").unwrap();
    assert_eq!(
        (&insert["parent_id"], &land["parent_id"]),
        (&land["span_id"], &batch["span_id"])
    );
    assert_eq!(insert["meta"]["peer.service"], "clickhouse");
    assert_eq!(
        (&insert["trace_id"], &insert["type"]),
        (&batch["trace_id"], &"db".into())
    );
    // The lines of the log say which trace they belong to.
    let id = batch["trace_id"].as_u64().unwrap().to_string();
    eventually("the log is written", SOON, async || {
        let log = worker.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut of_it = lines.filter(|line| line["dd.trace_id"] == id.as_str());
        of_it.any(|line| {
            line["dd.service"] == "events" && line["dd.env"] == "staging" && line["dd.version"] == "7"
        })
    })
    .await;
    worker
}

#[tokio::test]
async fn a_datadog_agent_is_told_of_batches_and_a_dogstatsd_of_numbers() {
    let world = World::start().await;
    let agent = Receiver::http(Mood::Takes).await;
    let statsd = Statsd::udp().await;
    let port = agent.address.rsplit(':').next().unwrap();
    let statsd_port = statsd.port.to_string();
    let environment = with(&[
        ("DD_AGENT_HOST", "127.0.0.1"),
        ("DD_TRACE_AGENT_PORT", port),
        ("DD_DOGSTATSD_PORT", &statsd_port),
        ("DD_SERVICE", "events"),
        ("DD_ENV", "staging"),
        ("DD_VERSION", "7"),
        ("DD_TAGS", "tier:2"),
        ("LOG_LEVEL", "debug"),
        ("LOG_FORMAT", "json"),
    ]);
    let _worker = an_agent_is_told(&world, &agent, &environment).await;
    let tags = "|#service:events,version:7,env:staging,consumer:w1,tier:2";
    for line in [
        "qurvo.processor.buffer_size:0|g",
        "qurvo.processor.person_batch_queue_size:0|g",
        "qurvo.processor.pel_size:0|g",
        "qurvo.processor.dlq_size:0|g",
        "qurvo.processor.consecutive_errors:0|g",
        "qurvo.processor.events_processed_total:1|c",
        "qurvo.processor.events_settled_total:1|c",
    ] {
        let line = format!("{line}{tags}");
        eventually(&line, SOON, async || statsd.lines().contains(&line)).await;
    }
    let lines = statsd.lines();
    let beat = lines
        .iter()
        .find(|line| line.starts_with("qurvo.processor.heartbeat_age_seconds:"))
        .unwrap();
    assert!(beat.contains("|g|"), "{beat}");
    let failed = format!(
        "qurvo.processor.events_failed_total:0|c|#reason:clickhouse_insert,{}",
        &tags[2..]
    );
    let lines = statsd.lines();
    assert!(lines.contains(&failed), "{lines:?}");
    let flush = lines
        .iter()
        .find(|line| line.starts_with("qurvo.processor.batch_flush_duration_ms:"))
        .unwrap();
    assert!(flush.contains("|ms|") && flush.ends_with(tags), "{flush}");
    let stage = lines
        .iter()
        .find(|line| line.starts_with("qurvo.processor.stage_duration_seconds:"))
        .unwrap();
    assert!(stage.contains("|d") && stage.contains("stage:"), "{stage}");
}

#[tokio::test]
async fn an_agent_and_a_dogstatsd_are_reached_by_sockets_in_the_file_system() {
    let world = World::start().await;
    let (apm, dsd) = (world.path("apm.socket"), world.path("dsd.socket"));
    let (agent, statsd) = (Receiver::unix(&apm), Statsd::unix(&dsd));
    let dsd = format!("unix://{}", dsd.display());
    let environment = with(&[
        ("DD_TRACE_AGENT_URL", agent.address.as_str()),
        ("DD_DOGSTATSD_URL", &dsd),
        ("DD_SERVICE", "events"),
        ("DD_ENV", "staging"),
        ("DD_VERSION", "7"),
        ("DD_TAGS", "tier:2"),
        ("LOG_LEVEL", "debug"),
        ("LOG_FORMAT", "json"),
    ]);
    let _worker = an_agent_is_told(&world, &agent, &environment).await;
    eventually("numbers come", SOON, async || {
        statsd
            .lines()
            .iter()
            .any(|line| line.starts_with("qurvo.processor.events_processed_total:1|c"))
    })
    .await;
}
