//! `qurvo-processor projects`: which projects there are, and adding one where no platform does it.

use serde_json::json;
use uuid::Uuid;

use super::environment;
use super::failure::Failure;
use super::output::{Rows, note, print};
use crate::config::Config;
use crate::event::ProjectId;
use crate::identity::upkeep::projects::{Project, add_project, projects};
use crate::stores::{Postgres, StoreError};

/// Longest name that the table holds, in characters.
const LONGEST_NAME: usize = 100;

/// Arguments of `projects`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Arguments {
    /// List the projects whose events are taken.
    #[command(after_long_help = environment::of_postgres())]
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Add a project and print its id. Events with this `project_id` are taken from then on.
    #[command(after_long_help = environment::of_postgres())]
    Add {
        /// What people call it: 1 to 100 characters.
        #[arg(value_parser = name)]
        name: String,
        /// Its id, a UUID. Where a project with this id exists, nothing is changed: so this may be repeated [default: a new
        /// one].
        #[arg(long)]
        id: Option<Uuid>,
    },
}

fn name(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > LONGEST_NAME {
        return Err(format!("a name has 1 to {LONGEST_NAME} characters"));
    }
    if text.contains('\0') {
        return Err("a name holds no NUL character".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let postgres = Postgres::new(&config.postgres)?;
    let done = match arguments {
        Arguments::List { json } => list(&postgres, json).await,
        Arguments::Add { name, id } => add(&postgres, &name, id).await,
    };
    postgres.close();
    Ok(done?)
}

async fn list(postgres: &Postgres, json: bool) -> Result<(), StoreError> {
    let projects = projects(postgres).await?;
    let mut table = Rows::new(&["id", "name", "since"]).whole(&["id"]);
    for Project { id, name, since } in &projects {
        if json {
            print(&json!({"id": id, "name": name, "created_at": since}).to_string());
        } else {
            table.add([&id.to_string(), name, since]);
        }
    }
    match projects.len() {
        _ if json => {}
        0 => print("no project: events wait until there is one; `qurvo-processor projects add NAME` adds it"),
        1 => print(&format!("{table}\n1 project")),
        count => print(&format!("{table}\n{count} projects")),
    }
    Ok(())
}

async fn add(postgres: &Postgres, name: &str, id: Option<Uuid>) -> Result<(), StoreError> {
    let id = ProjectId(id.unwrap_or_else(Uuid::new_v4));
    if let Some(called) = add_project(postgres, id, name).await? {
        note(&format!(
            "project {id} exists already, and is called {called:?}: nothing was changed"
        ));
    }
    print(&id.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_the_table_can_hold() {
        assert_eq!(name("Ж 1"), Ok("Ж 1".to_owned()));
        assert_eq!(name(&"Ж".repeat(100)).map(|name| name.chars().count()), Ok(100));
        for wrong in ["", "  ", "a\0b", &"x".repeat(101)] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}
