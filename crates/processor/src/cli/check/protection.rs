//! Who can read what is said on the way to Redis and to ClickHouse, as the configuration wants it. Pure.

use std::net::IpAddr;

use super::finding::Told;
use crate::config::{ClickHouseConfig, Node, RedisConfig, RedisServers, TlsFiles};
use crate::runtime::streams::few;
use crate::stores::StoreError;

/// Of the servers that are configured, and of those that these send us on to: a cluster's nodes, and what Sentinels know.
pub(super) fn redis(config: &RedisConfig, named: Result<Vec<Node>, StoreError>) -> Told {
    let nodes: &[Node] = match &config.servers {
        RedisServers::Socket(_) => return Told::Fine("a socket of this machine".into()),
        RedisServers::One(node) => std::slice::from_ref(node),
        RedisServers::Sentinels { sentinels, .. } => sentinels,
        RedisServers::Cluster(nodes) => nodes,
    };
    let unknown = named.as_ref().err().map(ToString::to_string);
    let named = named.unwrap_or_default();
    let elsewhere = nodes.iter().chain(&named).filter(|node| !is_here(&node.host));
    let mut elsewhere: Vec<String> = elsewhere.map(ToString::to_string).collect();
    elsewhere.dedup();
    let way = match (
        few(&elsewhere.iter().map(String::as_str).collect::<Vec<_>>()),
        unknown,
    ) {
        (nodes, _) if !nodes.is_empty() => Way::Leaves(format!(" on the way to {nodes}")),
        (_, Some(error)) => Way::Leaves(format!(", and which servers there are is not known ({error})")),
        _ => Way::StaysHere,
    };
    told(
        config.tls.as_ref(),
        way,
        "let the scheme of REDIS_URL begin with rediss, and name the server's authority in REDIS_CA_FILE where the system \
         does not know it",
    )
}

pub(super) fn clickhouse(config: &ClickHouseConfig) -> Told {
    let tls = (config.url.scheme() == "https").then_some(&config.tls);
    let way = if config.url.host_str().is_some_and(is_here) {
        Way::StaysHere
    } else {
        Way::Leaves(String::new())
    };
    told(
        tls,
        way,
        "write https:// in CLICKHOUSE_URL, and name the server's authority in CLICKHOUSE_CA_FILE where the system does not \
         know it",
    )
}

/// Where what is said goes.
enum Way {
    StaysHere,
    /// Where to, as far as that is not what is configured alone.
    Leaves(String),
}

fn told(tls: Option<&TlsFiles>, way: Way, remedy: &str) -> Told {
    match (tls, way) {
        (Some(files), _) => {
            let known = match files.identity {
                Some(_) => ", and we show it a certificate of ours",
                None => "",
            };
            Told::Fine(format!(
                "TLS, the server's certificate and name are verified{known}"
            ))
        }
        // What is said on this machine nobody else hears.
        (None, Way::StaysHere) => Told::Fine("not encrypted, and does not leave this machine".into()),
        (None, Way::Leaves(to)) => Told::Warning(format!(
            "not encrypted{to}: whoever is on the way reads events and the password; {remedy}"
        )),
    }
}

fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_this_machine_in_the_clear_is_a_warning() {
        for (url, is_fine) in [
            ("redis://127.0.0.1:1", true),
            ("redis://localhost:1", true),
            ("redis://[::1]:1", true),
            ("unix:///run/redis.sock", true),
            ("redis://redis.example:1", false),
            ("rediss://redis.example:1", true),
            ("redis-cluster://127.0.0.1:1,10.0.0.7:1", false),
            ("redis-sentinel://a.example:1/0#primary", false),
        ] {
            let config = RedisConfig::from_url(url).unwrap();
            assert_eq!(
                matches!(redis(&config, Ok(Vec::new())), Told::Fine(_)),
                is_fine,
                "{url}"
            );
        }
    }

    #[test]
    fn servers_elsewhere_that_are_named_by_those_of_this_machine_are_a_warning() {
        let node = |host: &str| Node {
            host: host.into(),
            port: 7,
        };
        for url in [
            "redis-cluster://127.0.0.1:1",
            "redis-sentinel://127.0.0.1:1#primary",
        ] {
            let config = RedisConfig::from_url(url).unwrap();
            assert!(matches!(
                redis(&config, Ok(vec![node("::1"), node("127.0.0.2")])),
                Told::Fine(_)
            ));
            let Told::Warning(said) = redis(&config, Ok(vec![node("::1"), node("10.0.0.7")])) else {
                panic!("{url} leads elsewhere");
            };
            assert!(said.contains("on the way to 10.0.0.7:7: "), "{said}");
            let unknown = StoreError::transient(crate::stores::Store::Redis, "asking", "gone".into());
            assert!(matches!(redis(&config, Err(unknown)), Told::Warning(_)));
        }
        let encrypted = RedisConfig::from_url("rediss-cluster://127.0.0.1:1").unwrap();
        assert!(matches!(
            redis(&encrypted, Ok(vec![node("10.0.0.7")])),
            Told::Fine(_)
        ));
    }
}
