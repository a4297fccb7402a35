//! What a node of a Redis Cluster is asked, and what it says of the cluster.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::BytesMut;
use stream_reply::{SimpleReply, decode_simple, encode_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::StackError;

/// Longest wait for one reply: `MIGRATE` sends keys of any size.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node, as another one (or itself) sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) port: u16,
    flags: Vec<String>,
    /// The master of a replica.
    pub(crate) master: Option<String>,
    pub(crate) is_connected: bool,
    slots: Vec<RangeInclusive<u16>>,
}

impl Seen {
    /// One line of `CLUSTER NODES`.
    fn of(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next();
        let id = word()?.to_owned();
        // 127.0.0.1:30001@31001,hostname
        let port = word()?.split('@').next()?.rsplit_once(':')?.1.parse().ok()?;
        let flags = word()?.split(',').map(str::to_owned).collect();
        let master = word().filter(|master| *master != "-").map(str::to_owned);
        let (_ping, _pong, _epoch) = (word()?, word()?, word()?);
        let is_connected = word()? == "connected";
        // A slot that is moving, `[93->-…]`, is named among the others too.
        let slots = words.filter(|slots| !slots.starts_with('[')).filter_map(range);
        Some(Self {
            id,
            port,
            flags,
            master,
            is_connected,
            slots: slots.collect(),
        })
    }

    fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set == flag)
    }

    /// Whether it is a master that nobody takes for dead.
    pub(crate) fn is_master(&self) -> bool {
        self.is("master") && !self.is("fail") && !self.is("fail?")
    }

    /// Whether the two have not met yet.
    pub(crate) fn is_stranger(&self) -> bool {
        self.is("handshake") || self.is("noaddr")
    }

    /// Whether it has a slot.
    pub(crate) fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|slots| slots.contains(&slot))
    }

    /// Whether it has any slot.
    pub(crate) fn has_slots(&self) -> bool {
        !self.slots.is_empty()
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Sends one command to the node on `port`.
pub(crate) async fn tell(port: u16, command: &[&str]) -> Result<SimpleReply, StackError> {
    let bytes: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
    tell_bytes(port, &bytes).await
}

/// The same, with words of any bytes.
pub(crate) async fn tell_bytes(port: u16, command: &[&[u8]]) -> Result<SimpleReply, StackError> {
    let failed = |reason: String| StackError::Node {
        port,
        during: String::from_utf8_lossy(&command.iter().take(3).copied().collect::<Vec<_>>().join(&b' '))
            .into_owned(),
        reason,
    };
    let answer = tokio::time::timeout(PATIENCE, exchange(port, command)).await;
    match answer {
        Ok(Ok(SimpleReply::Error(message))) => Err(failed(message)),
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_elapsed) => Err(failed("it said nothing".to_owned())),
    }
}

async fn exchange(port: u16, command: &[&[u8]]) -> std::io::Result<SimpleReply> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut output, mut input) = (BytesMut::new(), BytesMut::new());
    encode_command(command, &mut output);
    stream.write_all(&output).await?;
    loop {
        if let Some(reply) = decode_simple(&mut input).map_err(std::io::Error::other)? {
            return Ok(reply);
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A reply that is text.
pub(crate) async fn ask(port: u16, command: &[&str]) -> Result<String, StackError> {
    Ok(match tell(port, command).await? {
        SimpleReply::Bulk(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        SimpleReply::Status(text) => text,
        SimpleReply::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

/// How the node on `port` sees the cluster, itself included.
pub(crate) async fn view(port: u16) -> Result<Vec<Seen>, StackError> {
    let text = ask(port, &["CLUSTER", "NODES"]).await?;
    Ok(text.lines().filter_map(Seen::of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_its_node_is() {
        let master = "07c3 127.0.0.1:30004@31004,host myself,master - 0 1426238317239 4 connected 0-99 5460 [93->-29c8]";
        let seen = Seen::of(master).unwrap();
        assert_eq!((seen.id.as_str(), seen.port), ("07c3", 30004));
        assert!(seen.is_master() && seen.is_connected && seen.master.is_none());
        assert!(seen.owns(0) && seen.owns(99) && seen.owns(5460) && !seen.owns(100));
        let replica =
            Seen::of("67ed 127.0.0.1:30002@31002 slave,fail 07c3 1426 1426 2 disconnected").unwrap();
        assert_eq!(replica.master.as_deref(), Some("07c3"));
        assert!(!replica.is_master() && !replica.is_connected && !replica.owns(0));
        let dead = Seen::of("67ed :0@0 master,fail?,noaddr - 1426 1426 2 disconnected 7").unwrap();
        assert!(!dead.is_master() && dead.is_stranger());
    }
}
