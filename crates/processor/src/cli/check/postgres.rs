//! PostgreSQL: which server and database it is, whether it takes writes, its schema, the user's rights, and its projects.

use super::finding::{Findings, LIMIT, Told, explained, migrated, soon, within};
use super::postgres_hosts;
use crate::config::Config;
use crate::migrations;
use crate::stores::{Postgres, Protection, Store, StoreError};

/// The oldest version that has what is used.
const OLDEST: i32 = 140_000;

const WHICH: &str =
    "SELECT current_setting('server_version_num')::int, current_database()::text, current_user::text,
                            pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
                            (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid())";

/// Projects are counted up to this many.
const ENOUGH: i64 = 1000;

pub(super) async fn check(config: &Config, place: &str) -> Findings {
    let mut findings = Findings::new();
    let at = |told: String| format!("{place}: {told}");
    let postgres = match Postgres::new(&config.postgres) {
        Ok(postgres) => postgres,
        Err(error) => {
            findings.add(
                "PostgreSQL",
                Told::Wrong(at(explained(&error, "check DATABASE_URL"))),
            );
            return findings;
        }
    };
    let (connected, hosts) = tokio::join!(which(config, &postgres), postgres_hosts::check(&config.postgres));
    let (told, version) = match connected {
        Ok((told, version)) => (Told::Fine(at(told)), Some(version)),
        Err(told) => (Told::Wrong(at(told)), None),
    };
    findings.add("PostgreSQL", told);
    if let Some(told) = hosts {
        findings.add("PostgreSQL hosts", told);
    }
    let Some(version) = version else {
        return findings;
    };
    findings.add(
        "PostgreSQL connection",
        connection(config, &postgres, version).await,
    );
    findings.add("PostgreSQL schema", schema(&postgres).await);
    findings.add("PostgreSQL rights", rights(&postgres).await);
    findings.add("projects", projects(&postgres).await);
    findings
}

/// What is there, and the version of TLS that the server speaks, if it does.
async fn which(config: &Config, postgres: &Postgres) -> Result<(String, Option<String>), String> {
    // One that is gone without a word takes time that the next then needs.
    let limit = LIMIT * u32::try_from((2 * config.postgres.servers.len()).saturating_sub(1)).unwrap_or(1);
    let rows = within(limit, Store::Postgres, postgres.query("connecting", WHICH, &[])).await;
    let rows =
        rows.map_err(|error| explained(&error, "check DATABASE_URL and that PostgreSQL is running"))?;
    let row = rows.first().ok_or("no answer")?;
    let (version, database, user): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
    if version < OLDEST {
        return Err(format!(
            "version {version} is too old: use PostgreSQL 14 or newer"
        ));
    }
    let (is_standby, is_read_only): (bool, bool) = (row.get(3), row.get(4));
    if is_standby {
        return Err(format!(
            "database {database} is that of a standby, which takes no writes: name the primary in DATABASE_URL, or all \
             servers with target_session_attrs=read-write"
        ));
    }
    if is_read_only {
        return Err(format!(
            "database {database} is read-only for {user}: point DATABASE_URL at the primary, or lift \
             default_transaction_read_only"
        ));
    }
    let (major, minor) = (version / 10_000, version % 10_000);
    let told = format!("version {major}.{minor}, database {database}, user {user}");
    Ok((told, row.get(5)))
}

/// Which of the servers it is, and who can read what is said on the way.
async fn connection(config: &Config, postgres: &Postgres, version: Option<String>) -> Told {
    let reached = match soon(Store::Postgres, postgres.reached()).await {
        Ok(reached) => reached,
        Err(error) => return Told::Wrong(explained(&error, "check DATABASE_URL")),
    };
    let (server, version) = (
        &reached.server,
        version.map_or_else(|| "TLS".into(), |it| it.replace("TLSv", "TLS ")),
    );
    let (protected, remedy) = match reached.protection {
        Protection::NamedServer => (
            format!("{version}, the server's certificate and name are verified"),
            None,
        ),
        Protection::SignedServer => (
            format!("{version}, the server's certificate is verified, its name is not"),
            Some("set sslmode=verify-full in DATABASE_URL"),
        ),
        Protection::Encrypted => (
            format!("{version}, but the server's certificate is not verified, so another may answer for it"),
            Some("set sslmode=verify-full in DATABASE_URL, and sslrootcert to the server's authority"),
        ),
        Protection::Nothing => (
            "not encrypted".into(),
            Some("set sslmode=verify-full in DATABASE_URL, and sslrootcert to the server's authority"),
        ),
    };
    let told = format!("{server}: {protected}");
    let unsafe_choice = config.postgres.takes_any_of_several().then_some(
        "several servers are named and any that answers is taken, also one that takes no writes: add \
         target_session_attrs=read-write to DATABASE_URL",
    );
    // What is said on this machine nobody else hears.
    let remedy = remedy.filter(|_| !reached.is_here && reached.protection != Protection::SignedServer);
    match (remedy, unsafe_choice) {
        (None, None) => Told::Fine(told),
        (remedy, choice) => {
            let advice: Vec<&str> = remedy.into_iter().chain(choice).collect();
            Told::Warning(format!("{told}: {}", advice.join("; ")))
        }
    }
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
