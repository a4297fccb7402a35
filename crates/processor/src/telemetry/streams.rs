//! One stream and our group's place in it, as Redis has them: what `status`, `check` and the metrics tell of it.

use redis::streams::{StreamInfoConsumersReply, StreamInfoGroupsReply, StreamPendingReply};
use stream_reply::StreamId;

use crate::intake::GROUP;
use crate::stores::{Redis, StoreError, script};

/// A stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Entries it holds, those that were acknowledged included.
    pub length: u64,
    /// Our consumer group, once a worker has created it.
    pub group: Option<Group>,
}

/// What our group still has to do.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Entries that no instance has read yet, where Redis can say.
    pub lag: Option<u64>,
    /// Entries that instances have read since the group was made, where Redis can say.
    pub read: Option<u64>,
    /// The oldest entry that no instance has read.
    pub oldest_unread: Option<StreamId>,
    /// Entries that were read and are not acknowledged.
    pub pending: u64,
    /// The oldest of those.
    pub oldest_pending: Option<StreamId>,
    /// Who reads.
    pub consumers: Vec<Consumer>,
}

/// A member of the group.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// Its name.
    pub name: String,
    /// Entries that are pending for it.
    pub pending: u64,
    /// Since it last asked for entries.
    pub idle_ms: u64,
}

/// An entry itself may have megabytes: it stays where it is.
const NEXT: &str = r"
local next = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1)[1]
return next and next[1]";

/// Reads the state of one stream; nothing when it is not there.
///
/// # Errors
/// Redis's, or when the key is no stream.
pub(crate) async fn read(redis: &Redis, name: &str) -> Result<Option<Stream>, StoreError> {
    let during = "reading the stream's state";
    let length = redis
        .ask_of("reading a length", (name, "stream"), redis::cmd("XLEN").arg(name))
        .await?;
    if length == 0 && !redis.ask(during, redis::cmd("EXISTS").arg(name)).await? {
        return Ok(None);
    }
    let mut groups = redis::cmd("XINFO");
    groups.arg(&["GROUPS", name]);
    let groups: StreamInfoGroupsReply = redis.ask(during, &groups).await?;
    let Some(group) = groups.groups.into_iter().find(|group| group.name == GROUP) else {
        return Ok(Some(Stream { length, group: None }));
    };
    let mut members = redis::pipe();
    members.cmd("XPENDING").arg(&[name, GROUP]);
    members.cmd("XINFO").arg(&["CONSUMERS", name, GROUP]);
    let (pending, consumers): (StreamPendingReply, StreamInfoConsumersReply) =
        redis.ask_all(during, &members).await?;
    let next: Option<String> = if group.lag == Some(0) {
        None
    } else {
        let mut next = script(NEXT, &[name]);
        // Not everybody may run scripts; what else is known is worth telling.
        let next = redis.ask(during, next.arg(&group.last_delivered_id)).await;
        next.unwrap_or_default()
    };
    let oldest_pending = match &pending {
        StreamPendingReply::Data(data) => StreamId::parse(data.start_id.as_bytes()),
        _ => None,
    };
    let consumers = consumers.consumers.into_iter().map(|consumer| Consumer {
        name: consumer.name,
        pending: consumer.pending as u64,
        idle_ms: consumer.idle as u64,
    });
    Ok(Some(Stream {
        length,
        group: Some(Group {
            lag: group.lag.map(|lag| lag as u64),
            read: group.entries_read.map(|read| read as u64),
            oldest_unread: next.and_then(|id| StreamId::parse(id.as_bytes())),
            pending: group.pending as u64,
            oldest_pending,
            consumers: consumers.collect(),
        }),
    }))
}
