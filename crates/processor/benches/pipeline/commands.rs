//! A cycle over cohorts, and what operators ask, over the events of many persons.

use std::time::Instant;

use serde_json::json;
use uuid::Uuid;

use crate::arguments::Arguments;
use crate::figures::Run;
use crate::load::project;
use crate::scenarios::Scenario;
use crate::seed;
use crate::usage::Usage;
use crate::world::World;

/// So many runs.
pub(crate) async fn measure(world: &World, scenario: &Scenario, arguments: &Arguments) -> Vec<Run> {
    seed::events(world, scenario.persons).await;
    cohorts(world).await;
    let mut runs = Vec::new();
    for _ in 0..arguments.runs {
        world.settle().await;
        runs.push(asked(world).await);
    }
    runs
}

async fn asked(world: &World) -> Run {
    let before = Usage::now(world, None).await;
    let began = Instant::now();
    world.ask("SYSTEM RELOAD DICTIONARY person_overrides_dict").await;
    let reload = began.elapsed().as_secs_f64();
    let bytes = "SELECT bytes_allocated FROM system.dictionaries WHERE name = 'person_overrides_dict'";
    let dictionary = world.number(bytes).await / 1e6;
    let (cohorts, _) = world.run(&["cohorts", "recompute"]);
    let (audit, audit_peak) = world.run(&["person", "audit"]);
    let (status, _) = world.run(&["status", "--json"]);
    let (show, _) = world.run(&["person", "show", &project(0).to_string(), "before-7"]);
    let used = Usage::now(world, None).await.since(&before);
    vec![
        ("reload_s", reload),
        ("dictionary_mb", dictionary),
        ("cohorts_s", cohorts),
        ("audit_s", audit),
        ("audit_mb", audit_peak),
        ("status_s", status),
        ("show_s", show),
        ("others", 100.0 * used.others()),
    ]
}

async fn cohorts(world: &World) {
    let project = project(0);
    let user = format!(
        "INSERT INTO users (id, email, password_hash, display_name) VALUES ('{project}', 'a@b.example', '', '')"
    );
    world.postgres.batch_execute(&user).await.unwrap();
    let property = json!({"type": "person_property", "property": "plan", "operator": "eq", "value": "pro"});
    let not_property =
        json!({"type": "person_property", "property": "plan", "operator": "neq", "value": "pro"});
    let bought = json!({"type": "event", "event_name": "buy", "count_operator": "gte", "count": 2,
        "time_window_days": 30});
    let idle = json!({"type": "not_performed_event", "event_name": "buy", "time_window_days": 30});
    let other = json!({"type": "cohort", "cohort_id": Uuid::from_u128(0xc000), "negated": true});
    for (n, condition) in [property, not_property, bought, idle, other]
        .into_iter()
        .enumerate()
    {
        let definition = json!({"type": "AND", "values": [condition]});
        let sql =
            "INSERT INTO cohorts (id, project_id, created_by, name, definition) VALUES ($1, $2, $2, 'c', $3)";
        let id = Uuid::from_u128(0xc000 + n as u128);
        world
            .postgres
            .execute(sql, &[&id, &project, &definition])
            .await
            .unwrap();
    }
}
