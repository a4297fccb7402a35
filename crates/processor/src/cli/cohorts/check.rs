//! `cohorts check`: whether a definition can be used, and if not, where it is wrong and what may stand there.

use std::path::Path;

use cohort_query::{Definition, DefinitionError, Group, Node, UnknownMember, unknown_members};
use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::input::text_of;
use crate::cli::output::print;
use crate::logs::harmless;

pub(super) fn check(file: &Path, is_json: bool) -> Result<(), Failure> {
    let text = text_of(file)?;
    let (read, unknown) = match serde_json::from_str::<Value>(&text) {
        Ok(json) => (Definition::parse(&json), unknown_members(&json)),
        Err(error) => {
            let problem = format!("is not JSON: {error}");
            let path = String::new();
            (Err(DefinitionError { path, problem }), Vec::new())
        }
    };
    if is_json {
        print(&as_json(&read, &unknown).to_string());
    } else {
        let file = file.display();
        for line in lines(&read, &unknown) {
            print(&harmless::line(&format!("{file}: {line}")));
        }
    }
    read.map(drop).map_err(|_told| Failure::Silent)
}

fn lines(read: &Result<Definition, DefinitionError>, unknown: &[UnknownMember]) -> Vec<String> {
    let mut lines = Vec::new();
    match read {
        Ok(definition) => {
            let conditions = match conditions(&definition.root) {
                1 => "1 condition".to_owned(),
                count => format!("{count} conditions"),
            };
            lines.push(format!("can be used: {conditions}"));
            for id in definition.references() {
                lines.push(format!("refers to cohort {id}"));
            }
        }
        Err(error) => lines.push(format!("cannot be used: {error}")),
    }
    for UnknownMember { path, nearest } in unknown {
        let meant = nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
        lines.push(format!(
            "warning: {path} means nothing there and is ignored{meant}"
        ));
    }
    lines
}

fn as_json(read: &Result<Definition, DefinitionError>, unknown: &[UnknownMember]) -> Value {
    let unknown = unknown
        .iter()
        .map(|member| json!({"path": member.path, "nearest": member.nearest}));
    let error = read.as_ref().err();
    json!({
        "usable": error.is_none(),
        "path": error.map(|error| &error.path),
        "problem": error.map(|error| &error.problem),
        "unknown": unknown.collect::<Vec<_>>(),
        "conditions": read.as_ref().ok().map(|definition| conditions(&definition.root)),
    })
}

fn conditions(group: &Group) -> usize {
    let of_node = |node: &Node| match node {
        Node::Group(group) => conditions(group),
        Node::Cohort { .. } | Node::Condition(_) => 1,
    };
    group.nodes.iter().map(of_node).sum()
}
