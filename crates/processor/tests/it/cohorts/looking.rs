//! What people are told of cohorts: who is in them, how fresh that is, what is wrong with a definition.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{all, person, persons, plan_is};
use crate::support::{PROJECT, World};

/// Persons of a page of `cohorts members --json`.
fn page(world: &World, arguments: &[&str]) -> Vec<Value> {
    let output = world.output(&[&["cohorts", "members", "--json"], arguments].concat(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn the_members_of_a_cohort_are_counted_and_shown_page_by_page() {
    let world = World::start().await;
    let names: Vec<String> = (0..7).map(|n| format!("user {n}")).collect();
    for name in &names {
        world.on_plan(name, "pro").await;
    }
    world.on_plan("other", "free").await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let id = pro.to_string();
    let (ok, text) = world.run(&["cohorts", "members", &id], &[]);
    assert!(
        !ok && text.contains("has no membership yet") && text.contains("cohorts recompute"),
        "{text}"
    );
    assert!(world.recompute().0);
    world
        .pg(&format!(
            "INSERT INTO persons (id, project_id) VALUES ('{0}', '{PROJECT}');
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id, identified_at)
             VALUES ('{PROJECT}', '{0}', 'a visitor', NULL), ('{PROJECT}', '{0}', 'somebody', now())",
            person("user 3")
        ))
        .await;
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut arguments = vec![id.as_str(), "--limit", "3"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let page = page(&world, &arguments);
        found.extend(page.iter().cloned());
        match page.last() {
            Some(last) if page.len() == 3 => after = Some(last["person_id"].as_str().unwrap().to_owned()),
            _ => break,
        }
    }
    let of = |member: &Value| -> Uuid { member["person_id"].as_str().unwrap().parse().unwrap() };
    assert_eq!(found.len(), 7, "none is shown twice");
    let expected: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(found.iter().map(of).collect::<BTreeSet<_>>(), persons(&expected));
    let known = found
        .iter()
        .find(|member| of(member) == person("user 3"))
        .unwrap();
    assert_eq!(
        known["distinct_id"], "somebody",
        "an identified one where there is one"
    );
    let (ok, text) = world.run(&["cohorts", "members", &id, "--limit", "3"], &[]);
    assert!(
        ok && text.contains("7 members of \"pro\", computed ")
            && text.contains("3 shown")
            && text.contains("--after"),
        "{text}"
    );
    let (ok, text) = world.run(&["cohorts", "members", &Uuid::nil().to_string()], &[]);
    assert!(!ok && text.contains("there is no cohort"), "{text}");
}

#[tokio::test]
async fn static_members_are_counted_each_once() {
    let world = World::start().await;
    let fixed = world.cohort(1, "fixed", &all(json!([]))).await;
    world
        .pg(&format!(
            "UPDATE cohorts SET is_static = true WHERE id = '{fixed}'"
        ))
        .await;
    for _twice in 0..2 {
        world
            .ch(&format!(
                "INSERT INTO person_static_cohort (project_id, cohort_id, person_id)
                 VALUES ('{PROJECT}', '{fixed}', '{}')",
                person("a")
            ))
            .await;
    }
    let (ok, text) = world.run(&["cohorts", "members", &fixed.to_string()], &[]);
    assert!(ok && text.contains("1 member of \"fixed\"; 1 shown"), "{text}");
}

#[tokio::test]
async fn the_list_tells_names_numbers_of_members_freshness_and_what_is_wrong() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    world.cohort(1, "Busy pros", &all(json!([plan_is("pro")]))).await;
    let broken = world.cohort(2, "Broken", &all(json!([{"type": "dance"}]))).await;
    let output = world.output(&["cohorts", "recompute"], &[]);
    let [told, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(!output.status.success());
    assert_eq!(told.matches("unknown condition type").count(), 1, "{told}");
    assert!(
        told.contains(&format!("failed: {broken} \"Broken\": definition: ")),
        "{told}"
    );
    assert_eq!(said, "", "what is told once is not logged beside it");
    let (ok, list) = world.run(&["cohorts", "list"], &[]);
    assert!(ok, "{list}");
    for told in [
        "Busy pros",
        "fresh",
        "s ago",
        "\"Broken\" has failed once: definition: values[0].type: unknown condition",
        "2 cohorts: 1 failing, 1 fresh",
    ] {
        assert!(list.contains(told), "{told}: {list}");
    }
    let lines = |arguments: &[&str], environment: &[(&str, &str)]| -> (bool, Vec<Value>) {
        let output = world.output(&[&["cohorts", "list", "--json"], arguments].concat(), environment);
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (output.status.success(), lines.collect())
    };
    let (ok, cohorts) = lines(&["--project", PROJECT], &[]);
    assert!(ok && cohorts.len() == 2);
    assert_eq!(
        (&cohorts[0]["members"], &cohorts[0]["state"]),
        (&json!(1), &json!("fresh"))
    );
    assert_eq!(
        (&cohorts[1]["members"], &cohorts[1]["errors"]),
        (&Value::Null, &json!(1))
    );
    let (ok, cohorts) = lines(&[], &[("CLICKHOUSE_URL", "http://127.0.0.1:1")]);
    assert!(
        !ok && cohorts.len() == 2,
        "what PostgreSQL knows is told all the same"
    );
    assert_eq!(cohorts[0]["members"], Value::Null);
}

/// Exit code and standard output of `cohorts check` of a text.
fn check(world: &World, definition: &str, arguments: &[&str]) -> (i32, String) {
    let file = world.path("definition.json");
    std::fs::write(&file, definition).unwrap();
    let file = file.display().to_string();
    let output = world.output(&[&["cohorts", "check", &file], arguments].concat(), &[]);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[tokio::test]
async fn a_definition_is_checked_before_anything_is_made_of_it() {
    let world = World::start().await;
    let right = all(json!([plan_is("pro"), {"type": "OR", "values": [plan_is("team")]}]));
    let (code, text) = check(&world, &format!("\u{feff}{right}"), &[]);
    assert!(
        code == 0 && text.ends_with("definition.json: can be used: 2 conditions\n"),
        "{text}"
    );
    let mut misspelt = plan_is("pro");
    misspelt["vaule"] = json!("x");
    let (code, text) = check(&world, &all(json!([misspelt])).to_string(), &[]);
    assert!(
        code == 0
            && text.contains(
                "warning: values[0].vaule means nothing there and is ignored; did you mean `value`?"
            ),
        "{text}"
    );
    let mut wrong = plan_is("pro");
    wrong["operator"] = json!("=");
    let (code, text) = check(&world, &all(json!([wrong])).to_string(), &[]);
    assert!(
        code == 1
            && text.contains(
                "cannot be used: values[0].operator: unknown operator \"=\", expected one of eq, neq, "
            )
            && text.contains("is_date_exact"),
        "{text}"
    );
    let (code, text) = check(&world, "{", &["--json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert!(code == 1 && told["usable"] == false, "{text}");
    assert!(
        told["problem"].as_str().unwrap().starts_with("is not JSON: "),
        "{text}"
    );
}
