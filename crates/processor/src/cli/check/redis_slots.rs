//! Which node of a cluster has which stream: several streams on one node do not make the cluster faster.

use std::collections::BTreeSet;
use std::time::Duration;

use super::finding::{Told, explained, soon};
use crate::cli::slots;
use crate::config::Config;
use crate::intake::stream_keys;
use crate::stores::{OpenSlot, Redis, Store, slot_of};

/// What is said of streams in a cluster; nothing where there is none.
pub(super) async fn check(redis: &Redis, streams: &[String]) -> Option<Told> {
    if !redis.is_cluster() {
        return None;
    }
    let mut places = Vec::new();
    for stream in streams {
        match soon(Store::Redis, redis.place_of(stream)).await {
            Ok(place) => places.extend(place.map(|(slot, node)| (stream.as_str(), slot, node))),
            Err(error) => {
                return Some(Told::Wrong(explained(
                    &error,
                    "check that every slot has a node that serves it",
                )));
            }
        }
    }
    let ping = redis::cmd("PING");
    let masters = soon(
        Store::Redis,
        redis.ask_every_server::<String>("counting masters", &ping),
    )
    .await;
    Some(told(&places, masters.map_or(1, |masters| masters.len())))
}

/// What is said of slots that are on their way to another node; nothing where there is no cluster.
pub(super) async fn check_open(redis: &Redis, config: &Config) -> Option<Told> {
    if !redis.is_cluster() {
        return None;
    }
    Some(match soon(Store::Redis, redis.open_slots()).await {
        Ok(open) if open.is_empty() => Told::Fine("none: no slot is on its way to another node".into()),
        Ok(open) => {
            let names: Vec<&str> = config.streams.iter().map(String::as_str).collect();
            let said = open.iter().map(|open| slots::described(open, &names, &[&config.consumer_name]));
            let said = said.collect::<Vec<_>>().join("; ");
            match apart(redis, &open, (&names, config.trim)).await.as_slice() {
                [] => Told::Warning(said),
                apart => Told::Wrong(format!("not read, as their keys are at two nodes: {}; {said}", apart.join(", "))),
            }
        }
        Err(error) if error.code == "NOPERM" => Told::Warning(
            "not known: give the user of REDIS_URL the rights in docs/operations.md (`+cluster|nodes` on every node)".into(),
        ),
        Err(error) => Told::Wrong(explained(&error, "check that every master answers")),
    })
}

/// Streams in open slots whose keys are at two nodes, and stay so for a second.
async fn apart<'a>(redis: &Redis, open: &[OpenSlot], (streams, trims): (&[&'a str], bool)) -> Vec<&'a str> {
    let is_open = |stream: &&str| open.iter().any(|open| open.slot == slot_of(stream));
    let mut apart: Vec<&str> = streams.iter().copied().filter(is_open).collect();
    for look in 0..2 {
        if look > 0 && !apart.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut still = Vec::new();
        for stream in apart {
            let mut together = redis::cmd("EXISTS");
            together.arg(stream_keys(stream, trims));
            let looked = redis.ask::<i64>("looking for a stream's keys", &together).await;
            if looked.is_err_and(|error| error.is_of_a_move()) {
                still.push(stream);
            }
        }
        apart = still;
    }
    apart
}

fn told(places: &[(&str, u16, String)], masters: usize) -> Told {
    let nodes: BTreeSet<&str> = places.iter().map(|(_, _, node)| node.as_str()).collect();
    let said = places
        .iter()
        .map(|(stream, slot, node)| format!("{stream} → slot {slot} → {node}"));
    let said = said.collect::<Vec<_>>().join("; ");
    match nodes.first() {
        Some(node) if nodes.len() == 1 && places.len() > 1 && masters > 1 => Told::Warning(format!(
            "{said}: all streams are on {node}, one of {masters} masters, so the others take no part; move slots, or name \
             other streams, such as {{4..7}} for {{0..3}} (docs/streams.md)"
        )),
        _ => Told::Fine(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_are_all_on_one_of_several_masters_are_a_warning() {
        let (here, there) = (("a", 7, "n:1".to_owned()), ("b", 8, "n:2".to_owned()));
        let beside = ("b", 9, "n:1".to_owned());
        for (places, masters, is_fine) in [
            (vec![here.clone(), there], 3, true),
            (vec![here.clone(), beside.clone()], 3, false),
            (vec![here.clone(), beside], 1, true),
            (vec![here], 3, true),
        ] {
            let told = told(&places, masters);
            assert_eq!(matches!(told, Told::Fine(_)), is_fine, "{told:?}");
        }
    }
}
