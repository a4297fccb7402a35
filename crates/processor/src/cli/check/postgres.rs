//! PostgreSQL: which server and database it is, whether it takes writes, its schema, the user's rights, and its projects.

use super::finding::{Findings, Told, explained, migrated, soon};
use crate::config::Config;
use crate::migrations;
use crate::stores::{Postgres, Store, StoreError};

/// The oldest version that has what is used.
const OLDEST: i32 = 140_000;

const WHICH: &str =
    "SELECT current_setting('server_version_num')::int, current_database()::text, current_user::text,
                            pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";

/// Projects are counted up to this many.
const ENOUGH: i64 = 1000;

pub(super) async fn check(config: &Config, place: &str) -> Findings {
    let mut findings = Findings::new();
    let at = |told: String| format!("{place}: {told}");
    let postgres = match Postgres::new(&config.database_url) {
        Ok(postgres) => postgres,
        Err(error) => {
            findings.add(
                "PostgreSQL",
                Told::Wrong(at(explained(&error, "check DATABASE_URL"))),
            );
            return findings;
        }
    };
    let connected = which(&postgres).await;
    let is_there = connected.is_ok();
    findings.add("PostgreSQL", connected.map(at).map_err(at));
    if !is_there {
        return findings;
    }
    findings.add("PostgreSQL schema", schema(&postgres).await);
    findings.add("PostgreSQL rights", rights(&postgres).await);
    findings.add("projects", projects(&postgres).await);
    findings
}

async fn which(postgres: &Postgres) -> Result<String, String> {
    let rows = soon(Store::Postgres, postgres.query("connecting", WHICH, &[])).await;
    let rows =
        rows.map_err(|error| explained(&error, "check DATABASE_URL and that PostgreSQL is running"))?;
    let row = rows.first().ok_or("no answer")?;
    let (version, database, user): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
    if version < OLDEST {
        return Err(format!(
            "version {version} is too old: use PostgreSQL 14 or newer"
        ));
    }
    if row.get::<_, bool>(3) {
        return Err(format!(
            "database {database} is read-only for {user}: point DATABASE_URL at the primary, or lift \
             default_transaction_read_only"
        ));
    }
    let (major, minor) = (version / 10_000, version % 10_000);
    Ok(format!(
        "version {major}.{minor}, database {database}, user {user}"
    ))
}

async fn schema(postgres: &Postgres) -> Result<String, String> {
    let report = migrations::postgres_status(postgres).await;
    let steps = migrated(report)?;
    let found = soon(Store::Postgres, migrations::postgres_is_as_needed(postgres)).await;
    found.map_err(|error| match error.advice() {
        // Rights have words of their own.
        Some(advice) if error.code == "42501" => format!("{error}: {advice}"),
        _ => format!(
            "{error}: all migrations are recorded as applied, but this is not as they leave it: restore it"
        ),
    })?;
    Ok(format!("{steps}, tables as needed"))
}

async fn rights(postgres: &Postgres) -> Result<String, String> {
    let found = soon(Store::Postgres, migrations::postgres_rights(postgres)).await;
    found.map_err(|error| {
        explained(
            &error,
            "give the user of DATABASE_URL the rights in docs/operations.md",
        )
    })?;
    Ok("every table may be written as it is needed".into())
}

async fn projects(postgres: &Postgres) -> Told {
    let counting = format!("SELECT count(*) FROM (SELECT FROM projects LIMIT {ENOUGH}) AS found");
    match soon(
        Store::Postgres,
        postgres.query("counting projects", &counting, &[]),
    )
    .await
    {
        Err(error) => Told::Wrong(explained(&error, "check DATABASE_URL")),
        Ok(rows) => match rows.first().map_or(0, |row| row.get(0)) {
            0 => Told::Warning(StoreError::no_project("counting projects").message),
            ENOUGH => Told::Fine(format!("{ENOUGH} or more")),
            count => Told::Fine(count.to_string()),
        },
    }
}
