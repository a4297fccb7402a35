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
use super::terminal;
use crate::config::Config;
use crate::stores::Places;
use finding::{Finding, State};

/// As wide is what goes into a pipe or a file: people read it there, too.
const COLUMNS: usize = 100;

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
        print(&table(&findings, terminal::columns()));
    }
    if findings.iter().all(|finding| finding.ok) {
        Ok(())
    } else {
        Err(Failure::Silent)
    }
}

/// What was found, for people. In a pipe or a file each line says of what it is, so that `grep` finds all of a finding.
fn table(findings: &[Finding], columns: Option<usize>) -> String {
    let mut table = Rows::new(&["check", "", "detail", "ms"]).prose(&["detail"]);
    if columns.is_none() {
        table = table.repeated(&["check", ""]);
    }
    for finding in findings {
        let mark = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Wrong => "WRONG",
        };
        table.add([finding.what, mark, &finding.detail, &finding.ms.to_string()]);
    }
    table.within(Some(columns.unwrap_or(COLUMNS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::columns::width;

    fn finding(what: &'static str, state: State, words: usize) -> Finding {
        Finding {
            what,
            ok: state != State::Wrong,
            state,
            detail: "eleven more ".repeat(words).trim_end().to_owned(),
            ms: 7,
        }
    }

    #[test]
    fn whoever_searches_what_is_piped_finds_all_of_a_finding_in_lines_of_a_page() {
        let findings = [
            finding("Redis", State::Ok, 1),
            finding("ClickHouse connection", State::Wrong, 30),
            finding("projects", State::Warning, 2),
        ];
        let piped = table(&findings, None);
        assert!(piped.lines().all(|line| width(line) <= COLUMNS), "{piped}");
        let wrong: Vec<&str> = piped.lines().filter(|line| line.contains("WRONG")).collect();
        assert!(
            wrong.len() > 3 && wrong.iter().all(|line| line.starts_with("ClickHouse connection")),
            "{piped}"
        );
        let words: usize = wrong.iter().map(|line| line.matches("eleven").count()).sum();
        assert_eq!(words, 30, "{piped}");
        let seen = table(&findings, Some(COLUMNS));
        assert_eq!(
            seen.matches("WRONG").count(),
            1,
            "a terminal shows it once: {seen}"
        );
        assert_eq!(seen.lines().count(), piped.lines().count());
    }
}
