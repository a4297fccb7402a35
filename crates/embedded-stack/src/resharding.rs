//! Slots that move from one master to another while clients go on. In between, the old owner answers `ASK` for keys that
//! have gone.

use stream_reply::SimpleReply;

use crate::StackError;
use crate::node::{ask, tell, tell_bytes};
use crate::redis_cluster::RedisCluster;

/// Keys in one command.
const KEYS: &str = "100";

/// A slot on its way.
#[derive(Debug)]
pub struct SlotMove<'a> {
    cluster: &'a RedisCluster,
    slot: String,
    /// Port and id of the old owner, and of the new one.
    from: (u16, String),
    to: (u16, String),
}

impl RedisCluster {
    /// Moves a slot with its keys to another master.
    ///
    /// # Errors
    /// When a node does not answer, or refuses.
    pub async fn move_slot(&self, slot: u16, to: usize) -> Result<(), StackError> {
        let moving = self.begin_move(slot, to).await?;
        moving.move_keys().await?;
        moving.finish().await
    }

    /// Begins to move a slot: keys that are there stay where they are, new ones are for the new owner.
    ///
    /// # Errors
    /// When a node does not answer, or refuses.
    pub async fn begin_move(&self, slot: u16, to: usize) -> Result<SlotMove<'_>, StackError> {
        let from = self.owner_of_slot(slot).await?;
        let slot = slot.to_string();
        let named = async |node: usize| {
            let port = self.nodes()[node].port();
            Ok::<_, StackError>((port, ask(port, &["CLUSTER", "MYID"]).await?))
        };
        let (from, to) = (named(from).await?, named(to).await?);
        tell(to.0, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.1]).await?;
        tell(from.0, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.1]).await?;
        Ok(SlotMove {
            cluster: self,
            slot,
            from,
            to,
        })
    }
}

impl SlotMove<'_> {
    /// Moves the keys that are there.
    ///
    /// # Errors
    /// When a node does not answer, or refuses.
    pub async fn move_keys(&self) -> Result<(), StackError> {
        let port = self.to.0.to_string();
        loop {
            let keys = tell(self.from.0, &["CLUSTER", "GETKEYSINSLOT", &self.slot, KEYS]).await?;
            let keys: Vec<Vec<u8>> = match keys {
                SimpleReply::Array(keys) => keys.into_iter().filter_map(bytes).collect(),
                _ => Vec::new(),
            };
            if keys.is_empty() {
                return Ok(());
            }
            let words: [&[u8]; 7] = [
                b"MIGRATE",
                b"127.0.0.1",
                port.as_bytes(),
                b"",
                b"0",
                b"30000",
                b"KEYS",
            ];
            let command: Vec<&[u8]> = words.into_iter().chain(keys.iter().map(Vec::as_slice)).collect();
            tell_bytes(self.from.0, &command).await?;
        }
    }

    /// Makes the new owner known, once no key is left with the old one.
    ///
    /// # Errors
    /// When a node does not answer, or refuses.
    pub async fn finish(self) -> Result<(), StackError> {
        let others = self.cluster.running().await.into_iter();
        let others = others.filter(|port| *port != self.to.0 && *port != self.from.0);
        // The new owner first: were it to die behind the others, nobody would have the slot.
        for port in [self.to.0, self.from.0].into_iter().chain(others) {
            if ask(port, &["INFO", "replication"]).await?.contains("role:master") {
                tell(port, &["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.to.1]).await?;
            }
        }
        let slot = self.slot.parse().unwrap_or_default();
        self.cluster.owner_of_slot(slot).await.map(drop)
    }
}

fn bytes(key: SimpleReply) -> Option<Vec<u8>> {
    match key {
        SimpleReply::Bulk(bytes) => Some(bytes),
        _ => None,
    }
}
