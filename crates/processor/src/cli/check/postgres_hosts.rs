//! Each host of a `DATABASE_URL` that names several: a failover is no time to find out that one cannot be reached.

use futures::future::join_all;
use tokio_postgres::config::TargetSessionAttrs;

use super::finding::{Told, soon};
use crate::config::{PostgresConfig, PostgresServer};
use crate::stores::{Postgres, Store, StoreError};

/// Whether it is a standby, and since when it runs, in microseconds: everybody may ask that.
const WHICH: &str =
    "SELECT pg_is_in_recovery(), (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";
/// Whose data it has. A standby has the same number as its primary; some may not ask.
const WHOSE: &str = "SELECT system_identifier FROM pg_control_system()";

/// What tells one server from others, whatever it is called and by whichever address it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    since: i64,
    data: Option<i64>,
}

/// A server that answers.
#[derive(Debug, Clone, Copy)]
struct Host {
    is_standby: bool,
    identity: Identity,
}

/// What is said of them; nothing of a single one, which has its own line.
pub(super) async fn check(config: &PostgresConfig) -> Option<Told> {
    if config.servers.len() < 2 {
        return None;
    }
    let asked = config.servers.iter();
    let asked = asked.map(async |server| (server.to_string(), look_at(config, server).await));
    Some(told(join_all(asked).await))
}

async fn look_at(config: &PostgresConfig, server: &PostgresServer) -> Result<Host, StoreError> {
    let during = "looking at a host";
    let mut alone = config.clone();
    alone.servers = vec![server.clone()];
    alone.session.target_session_attrs(TargetSessionAttrs::Any);
    let postgres = Postgres::new(&alone)?;
    let which = soon(Store::Postgres, postgres.query(during, WHICH, &[])).await;
    let whose = match which {
        Ok(_) => soon(Store::Postgres, postgres.query(during, WHOSE, &[]))
            .await
            .ok(),
        Err(_) => None,
    };
    postgres.close();
    let which = which?;
    let row = which.first();
    Ok(Host {
        is_standby: row.is_some_and(|row| row.get(0)),
        identity: Identity {
            since: row.map_or(0, |row| row.get(1)),
            data: whose.and_then(|rows| Some(rows.first()?.get(0))),
        },
    })
}

fn told(hosts: Vec<(String, Result<Host, StoreError>)>) -> Told {
    let mut primaries = Vec::<(String, Identity)>::new();
    let is_one_away = hosts.iter().any(|(_, found)| found.is_err());
    let said = hosts.into_iter().map(|(host, found)| match found {
        Ok(Host { is_standby: true, .. }) => format!("{host}: standby"),
        Ok(Host { identity, .. }) => {
            let other = primaries.iter().find(|(_, other)| *other == identity);
            if let Some((other, _)) = other {
                return format!("{host}: the same server as {other}");
            }
            primaries.push((host.clone(), identity));
            format!("{host}: primary")
        }
        Err(error) => format!("{host}: not reached ({})", error.message),
    });
    let said = said.collect::<Vec<_>>().join("; ");
    match primaries.len() {
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
    fn a_host_that_is_away_and_two_primaries_are_warnings_and_two_names_of_one_are_not() {
        let away = || Err(StoreError::transient(Store::Postgres, "asking", "gone".into()));
        let host = |is_standby, since, data| {
            let identity = Identity { since, data };
            Ok(Host { is_standby, identity })
        };
        let primary = |since, data| host(false, since, data);
        for (found, is_fine) in [
            (vec![primary(1, Some(7)), host(true, 2, Some(7))], true),
            (vec![primary(1, Some(7)), away()], false),
            (vec![host(true, 1, None), host(true, 2, None)], false),
            (vec![primary(1, Some(7)), primary(2, Some(7))], false),
            (vec![primary(1, Some(7)), primary(1, Some(8))], false),
            (vec![primary(1, Some(7)), primary(1, Some(7))], true),
            (vec![primary(1, None), primary(1, None)], true),
            (vec![primary(1, None), primary(2, None)], false),
        ] {
            let hosts = found.into_iter().map(|found| ("h:1".to_owned(), found)).collect();
            let told = told(hosts);
            assert_eq!(matches!(told, Told::Fine(_)), is_fine, "{told:?}");
        }
    }
}
