//! `qurvo-processor check`: can this configuration work? Asks every service at once, says of everything that is wrong what
//! to do, and changes nothing.
//!
//! With `--json`, one array of findings: `what` was looked at, its `state` (`ok`, `warning`, `wrong`), whether it is `ok`
//! (a warning is), the `detail` (when not ok: what to do), and how many `ms` it took.

mod clickhouse;
mod finding;
mod postgres;
mod postgres_hosts;
mod protection;
mod redis;
mod redis_rights;
mod redis_slots;
mod surroundings;

use super::failure::Failure;
use super::output::{Rows, print, print_json};
use crate::config::Config;
use crate::stores::Places;
use finding::State;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let places = Places::of(&config);
    let (redis, postgres, clickhouse) = tokio::join!(
        redis::check(&config, &places.redis),
        postgres::check(&config, &places.postgres),
        clickhouse::check(&config, &places.clickhouse),
    );
    let mut findings = surroundings::check(&config).await.found;
    for of_store in [redis, postgres, clickhouse] {
        findings.extend(of_store.found);
    }
    if arguments.json {
        print_json(&findings)?;
    } else {
        let mut table = Rows::new(&["check", "", "detail", "ms"]).prose(&["detail"]);
        for finding in &findings {
            let mark = match finding.state {
                State::Ok => "ok",
                State::Warning => "warning",
                State::Wrong => "WRONG",
            };
            table.add([finding.what, mark, &finding.detail, &finding.ms.to_string()]);
        }
        print(&table.to_string());
    }
    if findings.iter().all(|finding| finding.ok) {
        Ok(())
    } else {
        Err(Failure::Silent)
    }
}
