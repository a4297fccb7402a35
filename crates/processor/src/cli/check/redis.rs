//! Redis: whether it answers, keeps what it is given, and what is in it.

use super::finding::{Findings, Told, explained, soon};
use super::{protection, redis_rights, redis_slots};
use crate::cohorts;
use crate::config::Config;
use crate::intake::{GROUP, REFUSED_AT};
use crate::replay;
use crate::set_aside::{QUEUE, REJECTED};
use crate::stores::{NO_TLS, Redis, Store, StoreError};
use crate::telemetry::streams::{self, Stream};

/// The oldest version that has what is used.
const OLDEST: u64 = 7;

/// What keys of ours have to be, once they are there.
const KEYS: [(&str, &str); 4] = [
    (QUEUE, "stream"),
    (REJECTED, "stream"),
    (replay::LOCK, "string"),
    (cohorts::LOCK, "string"),
];

pub(super) async fn check(config: &Config, place: &str) -> Findings {
    let mut findings = Findings::new();
    let redis = match reach(config).await {
        Ok(redis) => redis,
        Err(wrong) => {
            findings.add("Redis", Told::Wrong(format!("{place}: {wrong}")));
            return findings;
        }
    };
    let info = redis::cmd("INFO");
    let infos = redis.ask_every_server::<String>("asking what it is", &info);
    match soon(Store::Redis, infos).await {
        Ok(infos) => servers(&mut findings, &infos, place),
        Err(error) => {
            let unknown = format!("{place}: answers, but {error}: its version and settings are not known");
            findings.add("Redis", Told::Warning(unknown));
        }
    }
    let named = soon(Store::Redis, redis.named_servers()).await;
    findings.add("Redis connection", protection::redis(&config.redis, named));
    let missing = soon(Store::Redis, redis_rights::missing(&redis, config)).await;
    findings.add("Redis rights", rights(missing));
    findings.add("streams", streams(config, &redis).await);
    if let Some(told) = redis_slots::check(&redis, &config.streams).await {
        findings.add("stream slots", told);
    }
    if let Some(told) = redis_slots::check_open(&redis, config).await {
        findings.add("open slots", told);
    }
    findings
}

/// Every server is to be as it has to be; what is fine about all of them is said once.
fn servers(findings: &mut Findings, infos: &[(Option<String>, String)], place: &str) {
    for (nth, (node, info)) in infos.iter().enumerate() {
        let at = |detail: String| match node {
            Some(node) => format!("{node}: {detail}"),
            None => detail,
        };
        for (what, told) in settings(info, place) {
            match told {
                Told::Fine(_) if nth > 0 => {}
                Told::Fine(detail) => findings.add(what, Told::Fine(detail)),
                Told::Warning(detail) => findings.add(what, Told::Warning(at(detail))),
                Told::Wrong(detail) => findings.add(what, Told::Wrong(at(detail))),
            }
        }
    }
}

/// A connection that has been used.
async fn reach(config: &Config) -> Result<Redis, String> {
    let otherwise = "check REDIS_URL and that Redis is running";
    let redis = Redis::new(&config.redis);
    match soon(Store::Redis, redis.ask::<()>("connecting", &redis::cmd("PING"))).await {
        Err(error) if error.code != "NOPERM" => {
            let mut wrong = explained(&error, otherwise);
            let is_silent = error.message.starts_with("no answer");
            if is_silent && config.redis.tls.is_some() && !wrong.contains(NO_TLS) {
                wrong.push_str(NO_TLS);
            }
            Err(wrong)
        }
        _ => Ok(redis),
    }
}

fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(value).map(str::trim)
}

fn version(info: &str, place: &str) -> Result<String, String> {
    let version = value(info, "redis_version").unwrap_or("0");
    let major = version
        .split('.')
        .next()
        .and_then(|number| number.parse::<u64>().ok());
    if major.unwrap_or(0) < OLDEST {
        return Err(format!(
            "{place}: version {version} is too old: use Redis {OLDEST} or newer"
        ));
    }
    Ok(format!("{place}: version {version}"))
}

/// Whether it is new enough, takes writes, and keeps them.
fn settings(info: &str, place: &str) -> Vec<(&'static str, Told)> {
    let role = match value(info, "role") {
        Some("slave") => Told::Wrong(
            "this server is a replica, which takes no writes: point REDIS_URL at the primary".to_owned(),
        ),
        _ => Told::Fine("takes writes".into()),
    };
    let eviction = match value(info, "maxmemory_policy") {
        None | Some("noeviction") => Told::Fine("nothing is evicted".into()),
        Some(policy) => Told::Wrong(format!(
            "maxmemory-policy is {policy}: when its memory is full Redis removes events, letters or locks; set it to noeviction"
        )),
    };
    let persistence = match value(info, "aof_enabled") {
        Some("0") => Told::Warning(
            "appendonly is off: what came since the last snapshot is lost when Redis stops; set it to yes"
                .into(),
        ),
        _ => Told::Fine("writes are kept in an append-only file".into()),
    };
    vec![
        ("Redis", version(info, place).into()),
        ("Redis role", role),
        ("Redis eviction", eviction),
        ("Redis persistence", persistence),
    ]
}

fn rights(missing: Result<Vec<String>, StoreError>) -> Told {
    match missing {
        Ok(missing) if missing.is_empty() => Told::Fine("every command and key that is used".into()),
        Ok(missing) => Told::Wrong(format!(
            "the user of REDIS_URL may not {}: give it the rights in docs/operations.md (ACL SETUSER)",
            missing.join(", ")
        )),
        Err(error) => Told::Wrong(explained(&error, "check that Redis is running")),
    }
}

async fn streams(config: &Config, redis: &Redis) -> Result<String, String> {
    let mut details = Vec::new();
    let mut wrong = Vec::new();
    for stream in &config.streams {
        match stream_state(redis, stream).await {
            Ok(detail) => details.push(detail),
            Err(detail) => wrong.push(detail),
        }
    }
    for (key, wanted) in KEYS {
        let checked = soon(Store::Redis, redis.check_type("looking at a key", key, wanted)).await;
        // Rights have a line of their own.
        let failed = checked.err().filter(|error| error.code != "NOPERM");
        wrong.extend(failed.map(|error| error.to_string()));
    }
    details.push(if config.trim {
        "trims what every group has acknowledged".into()
    } else {
        "trims nothing (PROCESSOR_TRIM=off): something else must shorten the stream".into()
    });
    if wrong.is_empty() {
        Ok(details.join("; "))
    } else {
        Err(wrong.join("; "))
    }
}

/// Length and group of one stream. Neither has to be there yet.
async fn stream_state(redis: &Redis, stream: &str) -> Result<String, String> {
    let failed =
        |error: StoreError| explained(&error, "check that REDIS_URL names a user who may read streams");
    let found = soon(Store::Redis, redis.type_of("looking at the streams", stream)).await;
    let found = found.map_err(failed)?;
    if found != "stream" && found != "none" {
        return Err(format!(
            "{stream} is a {found}, not a stream: change PROCESSOR_STREAM, or remove the key"
        ));
    }
    let read = soon(Store::Redis, streams::read(redis, stream)).await;
    let Some(Stream { length, group }) = read.map_err(failed)? else {
        return Ok(format!(
            "{stream}: not there yet, a worker creates it with its group {GROUP}"
        ));
    };
    if length >= REFUSED_AT {
        return Err(format!(
            "{stream} holds {length} entries, and ingest refuses events from {REFUSED_AT} on: start workers, and leave \
             PROCESSOR_TRIM at `acked`"
        ));
    }
    let group = match group {
        Some(_) => format!("group {GROUP} is there"),
        None => format!("a worker creates its group {GROUP}"),
    };
    Ok(format!(
        "{stream}: {length} of at most {REFUSED_AT} entries, {group}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(info: &str) -> Vec<&'static str> {
        let all = settings(info, "h")
            .into_iter()
            .filter(|(what, _)| *what != "Redis");
        all.filter(|(_, told)| !matches!(told, Told::Fine(_)))
            .map(|(what, _)| what)
            .collect()
    }

    #[test]
    fn a_server_that_does_not_keep_what_it_is_given_is_told() {
        let fine = "# Server\r\nredis_version:7.2.1\r\nrole:master\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        assert_eq!(wrong(fine), [""; 0]);
        assert_eq!(wrong(""), [""; 0], "a managed server may say nothing");
        for (line, with, what) in [
            ("role:master", "role:slave", "Redis role"),
            ("noeviction", "allkeys-lru", "Redis eviction"),
            ("noeviction", "volatile-ttl", "Redis eviction"),
            ("aof_enabled:1", "aof_enabled:0", "Redis persistence"),
        ] {
            assert_eq!(wrong(&fine.replace(line, with)), [what]);
        }
        assert!(version(fine, "h").is_ok());
        assert!(version(&fine.replace("7.2.1", "6.2.0"), "h").is_err());
    }
}
