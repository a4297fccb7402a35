//! Who can read what is said on the way to Redis and to ClickHouse, as the configuration wants it. Pure.

use std::net::IpAddr;

use super::finding::Told;
use crate::config::{ClickHouseConfig, Node, RedisConfig, RedisServers, TlsFiles};

/// Of the servers that are configured: a cluster's nodes and a primary that Sentinels know are reached alike.
pub(super) fn redis(config: &RedisConfig) -> Told {
    let nodes: &[Node] = match &config.servers {
        RedisServers::Socket(_) => return Told::Fine("a socket of this machine".into()),
        RedisServers::One(node) => std::slice::from_ref(node),
        RedisServers::Sentinels { sentinels, .. } => sentinels,
        RedisServers::Cluster(nodes) => nodes,
    };
    let is_here = nodes.iter().all(|node| is_here(&node.host));
    told(
        config.tls.as_ref(),
        is_here,
        "let the scheme of REDIS_URL begin with rediss, and name the server's authority in REDIS_CA_FILE where the system \
         does not know it",
    )
}

pub(super) fn clickhouse(config: &ClickHouseConfig) -> Told {
    let tls = (config.url.scheme() == "https").then_some(&config.tls);
    let is_here = config.url.host_str().is_some_and(is_here);
    told(
        tls,
        is_here,
        "write https:// in CLICKHOUSE_URL, and name the server's authority in CLICKHOUSE_CA_FILE where the system does not \
         know it",
    )
}

fn told(tls: Option<&TlsFiles>, is_here: bool, remedy: &str) -> Told {
    match tls {
        Some(files) => {
            let known = match files.identity {
                Some(_) => ", and we show it a certificate of ours",
                None => "",
            };
            Told::Fine(format!(
                "TLS, the server's certificate and name are verified{known}"
            ))
        }
        // What is said on this machine nobody else hears.
        None if is_here => Told::Fine("not encrypted, and does not leave this machine".into()),
        None => Told::Warning(format!(
            "not encrypted: whoever is on the way reads events and the password; {remedy}"
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
            assert_eq!(matches!(redis(&config), Told::Fine(_)), is_fine, "{url}");
        }
    }
}
