//! Each host of a `DATABASE_URL` that names several: a failover is no time to find out that one cannot be reached.

use futures::future::join_all;
use tokio_postgres::config::TargetSessionAttrs;

use super::finding::{Told, soon};
use crate::config::{PostgresConfig, PostgresServer};
use crate::stores::{Postgres, Store, StoreError};

const WHICH: &str = "SELECT pg_is_in_recovery()";

/// What is said of them; nothing of a single one, which has its own line.
pub(super) async fn check(config: &PostgresConfig) -> Option<Told> {
    if config.servers.len() < 2 {
        return None;
    }
    let asked = config.servers.iter();
    let asked = asked.map(async |server| (server.to_string(), is_standby(config, server).await));
    Some(told(join_all(asked).await))
}

async fn is_standby(config: &PostgresConfig, server: &PostgresServer) -> Result<bool, StoreError> {
    let mut alone = config.clone();
    alone.servers = vec![server.clone()];
    alone.session.target_session_attrs(TargetSessionAttrs::Any);
    let postgres = Postgres::new(&alone)?;
    let rows = soon(Store::Postgres, postgres.query("looking at a host", WHICH, &[])).await;
    postgres.close();
    Ok(rows?.first().is_some_and(|row| row.get(0)))
}

fn told(hosts: Vec<(String, Result<bool, StoreError>)>) -> Told {
    let primaries = hosts
        .iter()
        .filter(|(_, found)| matches!(found, Ok(false)))
        .count();
    let is_one_away = hosts.iter().any(|(_, found)| found.is_err());
    let said = hosts.into_iter().map(|(host, found)| match found {
        Ok(false) => format!("{host}: primary"),
        Ok(true) => format!("{host}: standby"),
        Err(error) => format!("{host}: not reached ({})", error.message),
    });
    let said = said.collect::<Vec<_>>().join("; ");
    match primaries {
        0 => Told::Warning(format!("{said}: none of them takes writes now")),
        1 if is_one_away => Told::Warning(format!(
            "{said}: after a failover to a host that is not reached nothing could be written; mend it, or take it out of \
             DATABASE_URL"
        )),
        1 => Told::Fine(said),
        _ => Told::Warning(format!(
            "{said}: more than one takes writes, so persons could be written to either; name only the hosts of one PostgreSQL in \
             DATABASE_URL"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_away_and_two_primaries_are_warnings() {
        let away = || Err(StoreError::transient(Store::Postgres, "asking", "gone".into()));
        for (found, is_fine) in [
            (vec![Ok(false), Ok(true)], true),
            (vec![Ok(false), away()], false),
            (vec![Ok(true), Ok(true)], false),
            (vec![Ok(false), Ok(false)], false),
        ] {
            let hosts = found.into_iter().map(|found| ("h:1".to_owned(), found)).collect();
            let told = told(hosts);
            assert_eq!(matches!(told, Told::Fine(_)), is_fine, "{told:?}");
        }
    }
}
