//! Which node of a cluster has which slots, as a node says.

use redis::{Value, from_redis_value};

use crate::config::Node;

/// The owners of all slots, and every node there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Map {
    /// First and last slot, and their owner, in the order of the slots.
    ranges: Vec<(u16, u16, Node)>,
    nodes: Vec<Node>,
}

impl Map {
    /// Of the answer to `CLUSTER SLOTS`, which `asked` gave; nothing when nobody has a slot.
    pub(super) fn of(answer: Vec<Vec<Value>>, asked: &Node) -> Option<Self> {
        let mut map = Self::default();
        for range in answer {
            let mut range = range.into_iter();
            let (first, last) = (number(range.next()?)?, number(range.next()?)?);
            let mut nodes = range.filter_map(|node| known(node, asked));
            // The first one is the master.
            let owner = nodes.next()?;
            for node in std::iter::once(owner.clone()).chain(nodes) {
                if !map.nodes.contains(&node) {
                    map.nodes.push(node);
                }
            }
            map.ranges.push((first, last, owner));
        }
        map.ranges.sort_by_key(|(first, ..)| *first);
        (!map.ranges.is_empty()).then_some(map)
    }

    /// Who has a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Node> {
        let behind = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, owner) = self.ranges.get(behind.checked_sub(1)?)?;
        (slot <= *last).then_some(owner)
    }

    /// Those that have slots.
    pub(super) fn masters(&self) -> Vec<&Node> {
        let mut masters: Vec<&Node> = self.ranges.iter().map(|(_, _, owner)| owner).collect();
        masters.sort_by_key(|node| (&node.host, node.port));
        masters.dedup();
        masters
    }

    /// Every node, replicas too.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of an address that `asked` named, as in `MOVED 3999 127.0.0.1:6381`.
    pub(super) fn node_of(address: &str, asked: &Node) -> Option<Node> {
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Node {
            host: host_of(host, asked),
            port: port.parse().ok()?,
        })
    }
}

/// The node that takes a key's slot over, as `by` said where the key was looked for in vain: `ASK 3999 127.0.0.1:6381`.
pub fn asked_node(said: &str, by: &Node) -> Option<Node> {
    let mut words = said.split(' ');
    let address = (words.next()? == "ASK").then(|| words.nth(1))??;
    Map::node_of(address.trim_end(), by)
}

/// One that does not know its own name is where it was asked.
fn host_of(host: &str, asked: &Node) -> String {
    if host.is_empty() || host == "?" {
        asked.host.clone()
    } else {
        host.to_owned()
    }
}

fn known(node: Value, asked: &Node) -> Option<Node> {
    let node: Vec<Value> = from_redis_value(node).ok()?;
    let mut node = node.into_iter();
    let host: Option<String> = from_redis_value(node.next()?).ok()?;
    Some(Node {
        host: host_of(&host.unwrap_or_default(), asked),
        port: number(node.next()?)?,
    })
}

fn number(value: Value) -> Option<u16> {
    from_redis_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> Node {
        Node {
            host: host.to_owned(),
            port,
        }
    }

    fn range(first: i64, last: i64, nodes: &[(Option<&str>, i64)]) -> Vec<Value> {
        let nodes = nodes.iter().map(|(host, port)| {
            let host = host.map_or(Value::Nil, |host| Value::BulkString(host.into()));
            Value::Array(vec![
                host,
                Value::Int(*port),
                Value::BulkString("id".into()),
                Value::Array(vec![]),
            ])
        });
        [Value::Int(first), Value::Int(last)]
            .into_iter()
            .chain(nodes)
            .collect()
    }

    #[test]
    fn every_slot_has_the_owner_that_was_said() {
        let asked = node("seed", 7000);
        let map = Map::of(
            vec![
                range(8192, 16383, &[(Some("b"), 2), (Some("c"), 3)]),
                range(0, 8000, &[(Some("a"), 1)]),
                range(8001, 8001, &[(None, 4)]),
            ],
            &asked,
        );
        let map = map.unwrap();
        let owner = |slot| map.owner(slot).map(|owner| (owner.host.as_str(), owner.port));
        assert_eq!([owner(0), owner(8000)], [Some(("a", 1)); 2]);
        assert_eq!(owner(8001), Some(("seed", 4)), "it is where it was asked");
        assert_eq!([owner(8002), owner(8191)], [None; 2]);
        assert_eq!([owner(8192), owner(16383)], [Some(("b", 2)); 2]);
        assert_eq!(map.masters().len(), 3);
        assert_eq!(map.nodes().len(), 4, "replicas know the others too");
        assert_eq!(Map::of(vec![], &asked), None);
    }

    #[test]
    fn addresses_are_read_as_servers_write_them() {
        let asked = node("seed", 7000);
        assert_eq!(
            Map::node_of("10.0.0.1:6381", &asked),
            Some(node("10.0.0.1", 6381))
        );
        assert_eq!(Map::node_of("::1:6381", &asked), Some(node("::1", 6381)));
        assert_eq!(Map::node_of(":6381", &asked), Some(node("seed", 6381)));
        assert_eq!(Map::node_of("host", &asked), None);
        let taker = |said| asked_node(said, &asked);
        assert_eq!(taker("ASK 3999 10.0.0.1:6381"), Some(node("10.0.0.1", 6381)));
        assert_eq!(taker("ASK 3999 :6381"), Some(node("seed", 6381)));
        assert_eq!(
            taker("MOVED 3999 10.0.0.1:6381"),
            None,
            "the map says where it is"
        );
        assert_eq!(taker("ASK"), None);
    }
}
