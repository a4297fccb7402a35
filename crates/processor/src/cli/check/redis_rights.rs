//! Which commands and keys a user of Redis may not use, found out by using them in a way that changes nothing.
//!
//! A user with few rights may not ask what its rights are, so each command is tried: on a key of a second's life, which
//! holds a text, so that commands for everything else are refused after their right was looked at.

use ::redis::{Cmd, RedisResult, Value, cmd, pipe};

use crate::cohorts;
use crate::config::Config;
use crate::replay;
use crate::set_aside::{QUEUE, REJECTED};
use crate::stores::{Redis, StoreError};

/// The key of a second's life.
const PROBE: &str = "processor:probe";

/// Commands, and what stands behind the key.
const COMMANDS: &[(&str, &[&str])] = &[
    ("GET", &[]),
    ("MGET", &[]),
    ("EXISTS", &[]),
    ("TYPE", &[]),
    ("TTL", &[]),
    ("PTTL", &[]),
    ("INCR", &[]),
    ("HGET", &["f"]),
    ("HMGET", &["f"]),
    ("HGETALL", &[]),
    ("HSCAN", &["0"]),
    ("HSET", &["f", "1"]),
    ("HDEL", &["f"]),
    ("HINCRBY", &["f", "1"]),
    ("LRANGE", &["0", "0"]),
    ("LREM", &["1", "x"]),
    ("LPUSH", &["x"]),
    ("ZADD", &["1", "x"]),
    ("ZRANGE", &["0", "0"]),
    ("ZREM", &["x"]),
    ("ZREMRANGEBYLEX", &["-", "-"]),
    ("ZREMRANGEBYSCORE", &["-inf", "-1"]),
    ("ZREVRANGEBYLEX", &["-", "-"]),
    ("XADD", &["*", "f", "x"]),
    ("XACK", &["g", "0-0"]),
    ("XDEL", &["0-0"]),
    ("XLEN", &[]),
    ("XRANGE", &["0-0", "0-0"]),
    ("XREVRANGE", &["0-0", "0-0"]),
    ("XTRIM", &["MAXLEN", "1000000000"]),
    ("XCLAIM", &["g", "c", "1000000000", "0-0"]),
    ("XAUTOCLAIM", &["g", "c", "1000000000", "0-0"]),
    ("XPENDING", &["g"]),
    ("EXPIRE", &["1"]),
    ("PEXPIRE", &["1000"]),
    ("DEL", &[]),
];

/// Commands whose key does not come first, or that have none.
const OTHERS: &[&[&str]] = &[
    &["XINFO", "STREAM", PROBE],
    &["XGROUP", "CREATECONSUMER", PROBE, "g", "c"],
    &["XREADGROUP", "GROUP", "g", "c", "STREAMS", PROBE, ">"],
    &["EVAL", "return 1", "0"],
    &["TIME"],
    &["INFO", "server"],
    &["CLIENT", "ID"],
    &["CLIENT", "SETNAME", "check"],
    &["CLIENT", "LIST", "ID", "0"],
];

/// What is asked in a cluster only. `ASKING` is not tried: it would let the command behind it, whosever it is, into a slot that
/// is just being moved.
const OF_CLUSTERS: &[&[&str]] = &[&["CLUSTER", "SLOTS"]];

/// What the user may not do, in words that follow "may not".
///
/// # Errors
/// When Redis does not answer.
pub(super) async fn missing(redis: &Redis, config: &Config) -> Result<Vec<String>, StoreError> {
    let during = "looking for rights";
    let mut missing = Vec::new();
    let mut set = cmd("SET");
    set.arg(&[PROBE, "1", "PX", "1000"]);
    if is_refused(redis.ask::<Value>(during, &set).await)? {
        // What makes a key would make one that stays.
        return Ok(vec!["run SET".into()]);
    }
    let (names, commands): (Vec<&str>, Vec<Cmd>) = tried(redis.is_cluster()).into_iter().unzip();
    for (name, is_refused) in names.into_iter().zip(refused(redis, &commands).await?) {
        if is_refused && missing.last().is_none_or(|last| last != name) {
            missing.push(name.to_owned());
        }
    }
    if !missing.is_empty() {
        missing = vec![format!("run {}", missing.join(", "))];
    }
    let keys = keys(config);
    // Whatever a key holds, it has no such field.
    let written = keys.iter().map(|key| command(&["HDEL", key, "no such field"]));
    let commands: Vec<Cmd> = written.collect();
    let refused = refused(redis, &commands).await?;
    let closed = keys.iter().zip(refused).filter(|(_, is_refused)| *is_refused);
    let closed: Vec<&str> = closed.map(|(key, _)| key.as_str()).collect();
    if !closed.is_empty() && !missing.iter().any(|names| names.contains("HDEL")) {
        missing.push(format!("use keys such as {}", closed.join(", ")));
    }
    Ok(missing)
}

fn tried(is_cluster: bool) -> Vec<(&'static str, Cmd)> {
    let on_the_key = COMMANDS.iter().map(|(name, rest)| {
        let mut command = command(&[name, PROBE]);
        command.arg(*rest);
        (*name, command)
    });
    let of_clusters = OF_CLUSTERS.iter().filter(|_| is_cluster);
    let others = OTHERS
        .iter()
        .chain(of_clusters)
        .map(|words| (words[0], command(words)));
    // The one that ends the key comes last.
    others.chain(on_the_key).collect()
}

fn command(words: &[&str]) -> Cmd {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    command
}

/// Which of the commands the user may not run; every other error shows that it may.
async fn refused(redis: &Redis, commands: &[Cmd]) -> Result<Vec<bool>, StoreError> {
    let mut all = pipe();
    for command in commands {
        all.add_command(command.clone());
    }
    let answers: Vec<RedisResult<Value>> = redis.ask_each("looking for rights", all).await?;
    let is_refused =
        |answer: &RedisResult<Value>| matches!(answer, Err(error) if error.code() == Some("NOPERM"));
    Ok(answers.iter().map(is_refused).collect())
}

fn is_refused(answer: Result<Value, StoreError>) -> Result<bool, StoreError> {
    match answer {
        Ok(_) => Ok(false),
        Err(error) if error.code == "NOPERM" => Ok(true),
        // A server that is full refuses for another reason.
        Err(error) if !error.code.is_empty() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A key of each kind that is used.
fn keys(config: &Config) -> Vec<String> {
    let nobody = "0";
    let fixed = [
        QUEUE,
        REJECTED,
        replay::LOCK,
        cohorts::LOCK,
        "processor:instances",
        "processor:sharing",
        "dlq:replay:circuit",
    ];
    let mut keys: Vec<String> = config.streams.clone();
    keys.extend(fixed.map(str::to_owned));
    keys.extend([
        format!("events:dlq:staged:{nobody}"),
        format!("person:{nobody}:{nobody}"),
        format!("event_names:{nobody}"),
        format!("event_property_names:{nobody}"),
        format!("processor:consumer:{nobody}"),
        format!("processor:stream:{nobody}"),
    ]);
    // Each stands beside its stream, whatever that is called.
    keys.extend(
        config
            .streams
            .iter()
            .map(|stream| format!("processor:reader:{stream}")),
    );
    keys
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Names of commands in the texts of a folder.
    fn used(folder: &Path, found: &mut std::collections::BTreeSet<String>) {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                used(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (before, after) in [
                ("redis.call('", '\''),
                ("redis.pcall('", '\''),
                ("redis::cmd(\"", '"'),
                (".cmd(\"", '"'),
            ] {
                for call in text.split(before).skip(1) {
                    found.extend(call.split(after).next().map(str::to_owned));
                }
            }
        }
    }

    #[test]
    fn every_command_in_the_source_is_tried() {
        let mut used_names = std::collections::BTreeSet::new();
        used(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut used_names,
        );
        let tried: Vec<&str> = tried(true).into_iter().map(|(name, _)| name).collect();
        let known = |name: &&String| {
            tried.contains(&name.as_str()) || ["SET", "PING", "ASKING", "SENTINEL"].contains(&name.as_str())
        };
        let is_name = |name: &&String| name.chars().all(|c| c.is_ascii_uppercase()) && !name.is_empty();
        let untried: Vec<&String> = used_names
            .iter()
            .filter(is_name)
            .filter(|name| !known(name))
            .collect();
        assert!(untried.is_empty() && used_names.len() > 30, "{untried:?}");
    }
}
