//! What a test sends, and what stands in Redis's streams.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::FromRedisValue;
use redis::streams::{StreamId, StreamInfoGroupsReply, StreamInfoStreamReply, StreamRangeReply};
use uuid::Uuid;

use super::{GROUP, PROJECT, QUEUE, STREAM, World, eventually};

/// A command of Redis and its answer.
pub(crate) async fn ask<T: FromRedisValue>(world: &World, command: &str, arguments: &[&str]) -> T {
    redis::cmd(command)
        .arg(arguments)
        .query_async(&mut world.redis.clone())
        .await
        .unwrap()
}

/// All entries of a stream.
pub(crate) async fn entries(world: &World, stream: &str) -> Vec<StreamId> {
    let range: StreamRangeReply = ask(world, "XRANGE", &[stream, "-", "+"]).await;
    range.ids
}

impl World {
    /// Appends one entry; an event id is added unless given.
    pub(crate) async fn add(&self, fields: &[(&str, &str)]) -> String {
        let mut command = redis::cmd("XADD");
        command.arg(STREAM).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        command.query_async(&mut self.redis.clone()).await.unwrap()
    }

    /// Appends a plain event of a distinct id and returns its event id.
    pub(crate) async fn event(&self, distinct_id: &str, more: &[(&str, &str)]) -> Uuid {
        let event_id = Uuid::new_v4();
        let text = event_id.to_string();
        let mut fields = vec![
            ("event_id", text.as_str()),
            ("project_id", PROJECT),
            ("distinct_id", distinct_id),
        ];
        if !more.iter().any(|(name, _)| *name == "event_name") {
            fields.push(("event_name", "test"));
        }
        fields.extend_from_slice(more);
        self.add(&fields).await;
        event_id
    }

    pub(crate) async fn identify(&self, user: &str, anonymous: &str) -> Uuid {
        let fields = [
            ("event_name", "$identify"),
            ("event_type", "identify"),
            ("anonymous_id", anonymous),
            ("user_id", user),
        ];
        self.event(user, &fields).await
    }

    /// Appends many plain events, pipelined; some of them identify. Returns their event ids.
    pub(crate) async fn load(&self, count: usize, persons: usize) -> BTreeSet<Uuid> {
        let mut ids = BTreeSet::new();
        let mut pipeline = redis::pipe();
        for n in 0..count {
            let event_id = Uuid::new_v4();
            ids.insert(event_id);
            let person = n % persons;
            let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
            command
                .arg("event_id")
                .arg(event_id.to_string())
                .arg("project_id")
                .arg(PROJECT);
            if n % 37 == 36 {
                command
                    .arg("event_name")
                    .arg("$identify")
                    .arg("distinct_id")
                    .arg(format!("user-{person}"));
                command.arg("anonymous_id").arg(format!("anon-{person}"));
            } else {
                command
                    .arg("event_name")
                    .arg(format!("name {}", n % 7))
                    .arg("distinct_id");
                command
                    .arg(format!("anon-{person}"))
                    .arg("properties")
                    .arg(format!(r#"{{"n":{n}}}"#));
                if n % 11 == 0 {
                    command.arg("user_properties").arg(format!(r#"{{"last":{n}}}"#));
                }
            }
            command.ignore();
            if n % 1000 == 999 {
                pipeline.query_async::<()>(&mut self.redis.clone()).await.unwrap();
                pipeline.clear();
            }
        }
        if !count.is_multiple_of(1000) {
            pipeline.query_async::<()>(&mut self.redis.clone()).await.unwrap();
        }
        ids
    }

    /// Entries that the group has not read yet, or not acknowledged yet.
    pub(crate) async fn unsettled(&self) -> Option<u64> {
        let groups: StreamInfoGroupsReply = redis::cmd("XINFO")
            .arg("GROUPS")
            .arg(STREAM)
            .query_async(&mut self.redis.clone())
            .await
            .ok()?;
        let group = groups.groups.into_iter().find(|group| group.name == GROUP)?;
        let last: StreamInfoStreamReply = redis::cmd("XINFO")
            .arg("STREAM")
            .arg(STREAM)
            .query_async(&mut self.redis.clone())
            .await
            .ok()?;
        let unread = u64::from(group.last_delivered_id != last.last_generated_id);
        Some(unread + group.pending as u64)
    }

    /// Waits until every entry is settled and every dead letter replayed.
    pub(crate) async fn settled(&self, limit: Duration) {
        eventually(
            "every entry is acknowledged and no dead letter left",
            limit,
            async || self.unsettled().await == Some(0) && self.length(QUEUE).await == Some(0),
        )
        .await;
    }

    /// Makes what a consumer is given by a test a dead process's: without a note it would count as living.
    pub(crate) async fn is_dead(&self, consumer: &str) {
        let (key, note) = (format!("processor:consumer:{consumer}"), "dead -");
        let mut set = redis::cmd("SET");
        let set = set.arg(key).arg(note);
        set.query_async::<()>(&mut self.redis.clone()).await.unwrap();
    }

    /// Entries of a stream.
    pub(crate) async fn length(&self, stream: &str) -> Option<u64> {
        let mut redis = self.redis.clone();
        redis::cmd("XLEN").arg(stream).query_async(&mut redis).await.ok()
    }
}
