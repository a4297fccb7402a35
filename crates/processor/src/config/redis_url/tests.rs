//! How `REDIS_URL` is read.

use super::*;

fn read(url: &str) -> RedisConfig {
    RedisConfig::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn password_of(read: &RedisConfig) -> Option<String> {
    read.password.as_ref().map(Password::current)
}

fn node(host: &str, port: u16) -> Node {
    Node {
        host: host.into(),
        port,
    }
}

#[test]
fn one_server_has_a_host_a_port_and_a_database() {
    for (url, host, port, database) in [
        ("redis://localhost", "localhost", 6379, 0),
        ("redis://cache.example:7000/3", "cache.example", 7000, 3),
        ("redis://[::1]:7000/", "::1", 7000, 0),
        ("rediss://u:p@10.0.0.7/1", "10.0.0.7", 6379, 1),
    ] {
        let read = read(url);
        assert_eq!(read.servers, RedisServers::One(node(host, port)), "{url}");
        assert_eq!(
            (read.database, read.tls.is_some()),
            (database, url.starts_with("rediss"))
        );
    }
}

#[test]
fn user_and_password_are_decoded_and_a_single_word_is_the_password() {
    for (info, user, password) in [
        ("", None, None),
        (":secret@", None, Some("secret")),
        ("secret@", None, Some("secret")),
        ("u:p%40%3A%2F@", Some("u"), Some("p@:/")),
        ("u:a@b@", Some("u"), Some("a@b")),
        ("u:a:b@", Some("u"), Some("a:b")),
    ] {
        for scheme in ["redis", "redis-cluster"] {
            let read = read(&format!("{scheme}://{info}host:1"));
            assert_eq!(
                (read.user.as_deref(), password_of(&read).as_deref()),
                (user, password),
                "{info}"
            );
        }
    }
}

#[test]
fn sentinels_are_several_and_know_the_primary_by_its_name() {
    let sentinels = vec![node("a", 26379), node("b", 1), node("::1", 2)];
    for url in [
        "redis-sentinel://secret@a,b:1,[::1]:2/4#my%20primary",
        "rediss-sentinel://:secret@a,b:1,[::1]:2/4?sentinelMasterId=my%20primary",
    ] {
        let read = read(url);
        let (sentinels, primary) = (sentinels.clone(), "my primary".into());
        assert_eq!(read.servers, RedisServers::Sentinels { sentinels, primary });
        assert_eq!(
            (read.database, password_of(&read).as_deref()),
            (4, Some("secret"))
        );
    }
}

#[test]
fn a_cluster_is_named_by_some_of_its_nodes() {
    let read = read("rediss-cluster://u:p@a:1,b");
    assert_eq!(
        read.servers,
        RedisServers::Cluster(vec![node("a", 1), node("b", 6379)])
    );
    assert!(read.tls.is_some());
}

#[test]
fn a_socket_has_a_path_and_parameters() {
    let read = read("unix:///run/redis%20x.sock?db=2&user=u&pass=p%26");
    assert_eq!(read.servers, RedisServers::Socket("/run/redis x.sock".into()));
    let password = password_of(&read);
    let who = (read.database, read.user.as_deref(), password.as_deref());
    assert_eq!(who, (2, Some("u"), Some("p&")));
}

#[test]
fn what_is_not_understood_is_told_without_a_secret() {
    for (url, hint) in [
        ("http://u:hunter2@h", "redis-cluster://"),
        ("redis://u:hunter2@a:1,b:2", "one host"),
        ("redis://u:hunter2@", "host:port"),
        ("redis://u:hunter2@h:99999", "host:port"),
        ("redis-sentinel://u:hunter2@h", "mymaster"),
        ("redis-cluster://u:hunter2@h/1", "no others"),
        ("redis://h?timeout=hunter2", "timeout"),
        ("redis://:hunter2#x@h:6379", "%23"),
        ("unix://hunter2/run", "unix:///path"),
        ("hunter2", "redis://"),
    ] {
        let error = RedisConfig::from_url(url).unwrap_err().to_string();
        assert!(
            error.contains(hint) && !error.contains("hunter2"),
            "{url}: {error}"
        );
    }
}

#[test]
fn a_place_is_told_without_user_and_password() {
    for (url, place) in [
        ("redis://localhost", "localhost:6379/0"),
        ("rediss://u:secret@cache.example:7000/3", "cache.example:7000/3"),
        (
            "unix:///run/redis.sock?db=2&pass=secret",
            "/run/redis.sock, database 2",
        ),
        (
            "redis-sentinel://secret@a,[::1]:2/1#main",
            "primary main of Sentinels a:26379,[::1]:2, database 1",
        ),
        ("redis-cluster://secret@a:1,b", "cluster a:1,b:6379"),
    ] {
        assert_eq!(read(url).to_string(), place);
    }
}
