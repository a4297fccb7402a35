//! The table `projects`, for people who have no platform that keeps it.

use tokio_postgres::types::Type;

use crate::event::ProjectId;
use crate::stores::{Postgres, StoreError};

const LIST: &str = "
    SELECT id, name, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
    FROM projects ORDER BY name, id";
/// Whatever else a platform's table has keeps its default.
const ADD: &str = "INSERT INTO projects (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING RETURNING id";
const NAME: &str = "SELECT name FROM projects WHERE id = $1";

/// A project as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// What its events name.
    pub id: ProjectId,
    /// What people call it.
    pub name: String,
    /// When it was added, in UTC.
    pub since: String,
}

/// All projects, by name.
///
/// # Errors
/// PostgreSQL's.
pub async fn projects(postgres: &Postgres) -> Result<Vec<Project>, StoreError> {
    let rows = postgres.query("listing projects", LIST, &[]).await?;
    let projects = rows.iter().map(|row| Project {
        id: row.get(0),
        name: row.get(1),
        since: row.get(2),
    });
    Ok(projects.collect())
}

/// Adds a project. Where one with this id exists, nothing is changed, and its name is returned.
///
/// # Errors
/// PostgreSQL's.
pub async fn add_project(
    postgres: &Postgres,
    id: ProjectId,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let project = [(&id as _, Type::UUID), (&name as _, Type::TEXT)];
    let added = postgres.query("adding a project", ADD, &project).await?;
    if !added.is_empty() {
        return Ok(None);
    }
    let found = postgres
        .query("reading a project", NAME, &[(&id as _, Type::UUID)])
        .await?;
    Ok(Some(found.first().map_or_else(String::new, |row| row.get(0))))
}
