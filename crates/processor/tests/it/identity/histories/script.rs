//! What a history consists of, and how it is sent.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::identity::model::{Said, Write};
use crate::support::{STREAM, World};

/// One event as it goes into the stream, perhaps more than once.
pub(super) struct Sent {
    pub(super) project: Uuid,
    pub(super) event_id: Uuid,
    pub(super) said: Said,
}

impl Sent {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let time = jiff::Timestamp::from_millisecond(self.said.time).unwrap();
        let name = if self.said.identifies {
            "$identify"
        } else {
            "visited"
        };
        vec![
            ("event_id", self.event_id.to_string()),
            ("project_id", self.project.to_string()),
            ("event_name", name.into()),
            ("distinct_id", self.said.who.clone()),
            ("anonymous_id", self.said.anonymous.clone().unwrap_or_default()),
            ("timestamp", format!("{time:.3}")),
            ("user_properties", user_properties(&self.said.writes)),
        ]
    }
}

/// In each of the spellings that SDKs have.
fn user_properties(writes: &[Write]) -> String {
    let mut root = serde_json::Map::new();
    for (n, write) in writes.iter().enumerate() {
        let inner = match write {
            Write::Set(key, value) if n % 2 == 0 => {
                root.insert(key.clone(), value.clone());
                continue;
            }
            Write::Set(key, value) => ("$set", json!({ key: value })),
            Write::Once(key, value) => ("$set_once", json!({ key: value })),
            Write::Unset(key) => ("$unset", json!([key])),
        };
        root.insert(inner.0.into(), inner.1);
    }
    Value::Object(root).to_string()
}

/// Who takes part, and who may become whom.
pub(super) struct Cast {
    users: Vec<String>,
    /// Anonymous ids, each with the one user that may identify with it; anybody may when there is none.
    anonymous: Vec<(String, Option<String>)>,
}

impl Cast {
    pub(super) fn peaceful() -> Self {
        let users: Vec<String> = (0..3).map(|n| format!("user-{n}")).collect();
        let anonymous = (0..6).map(|n| (format!("anonymous: {n}"), Some(users[n % 3].clone())));
        Self {
            anonymous: anonymous.collect(),
            users,
        }
    }

    /// One user with very many visits.
    pub(super) fn crowded() -> Self {
        let users = vec!["user".to_owned()];
        let anonymous = (0..50).map(|n| (format!("anonymous: {n}"), Some(users[0].clone())));
        Self {
            anonymous: anonymous.collect(),
            users,
        }
    }

    pub(super) fn quarrelling() -> Self {
        Self {
            users: (0..3).map(|n| format!("user-{n}")).collect(),
            anonymous: (0..2).map(|n| (format!("anonymous: {n}"), None)).collect(),
        }
    }
}

/// A history: events in the order in which they are sent. Places are filled in when they are.
pub(super) fn history(
    random: &mut StdRng,
    project: Uuid,
    cast: &Cast,
    length: usize,
    identifies: usize,
) -> Vec<Sent> {
    let now = jiff::Timestamp::now().as_millisecond();
    let mut left = identifies;
    (0..length)
        .map(|n| {
            let identify = left > 0 && random.random_ratio(left as u32, (length - n) as u32);
            let (anonymous, owner) = cast.anonymous.choose(random).unwrap().clone();
            let (who, anonymous) = if identify {
                left -= 1;
                let user = owner.unwrap_or_else(|| cast.users.choose(random).unwrap().clone());
                (user, Some(anonymous))
            } else if random.random_bool(0.6) {
                (anonymous, None)
            } else {
                (cast.users.choose(random).unwrap().clone(), None)
            };
            // Most events come at once, some were offline for up to an hour.
            let late = if random.random_bool(0.2) { 3_600_000 } else { 1 };
            let time = now - random.random_range(0..late) - 1_000 + n as i64;
            let writes = if random.random_bool(0.5) {
                vec![write(random)]
            } else {
                Vec::new()
            };
            let said = Said {
                who,
                identifies: identify,
                anonymous,
                writes,
                time,
                place: (0, 0),
            };
            Sent {
                project,
                event_id: Uuid::new_v4(),
                said,
            }
        })
        .collect()
}

fn write(random: &mut StdRng) -> Write {
    let key = (*["plan", "it's", "🦔 \"k\""].choose(random).unwrap()).to_owned();
    let value = match random.random_range(0..4) {
        0 => json!(random.random_range(0..1000)),
        1 => json!("a \\ \"text\""),
        2 => json!({ "nested": [1, null, true] }),
        _ => Value::Null,
    };
    match random.random_range(0..10) {
        0..=1 => Write::Unset(key),
        2..=6 => Write::Once(key, value),
        _ => Write::Set(key, value),
    }
}

/// Sends histories mixed with each other, each in its order; the events with their places. Some are sent again later, as
/// clients do that got no answer: a second entry with the same event.
pub(super) async fn send(world: &World, random: &mut StdRng, histories: Vec<Vec<Sent>>) -> Vec<Sent> {
    let mut waiting: Vec<_> = histories.into_iter().map(Vec::into_iter).collect();
    let mut sent: Vec<Sent> = Vec::new();
    while !waiting.is_empty() {
        let which = random.random_range(0..waiting.len());
        let next = if !sent.is_empty() && random.random_bool(0.05) {
            let again = sent.choose(random).unwrap();
            Some(Sent {
                project: again.project,
                event_id: again.event_id,
                said: again.said.clone(),
            })
        } else {
            waiting[which].next()
        };
        let Some(mut event) = next else {
            drop(waiting.swap_remove(which));
            continue;
        };
        let fields = event.fields();
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let place = world.add(&fields).await;
        let (ms, seq) = place.split_once('-').unwrap();
        event.said.place = (ms.parse().unwrap(), seq.parse().unwrap());
        // Never later than the arrival.
        event.said.time = event.said.time.min(event.said.place.0 as i64);
        sent.push(event);
        if random.random_bool(0.02) {
            tokio::time::sleep(Duration::from_millis(random.random_range(1..120))).await;
        }
    }
    sent
}

/// Gives some settled entries to the group once more, as if a dead consumer had held them.
pub(super) async fn deliver_again(world: &World, random: &mut StdRng, sent: &[Sent]) {
    for event in sent.iter().filter(|_| random.random_bool(0.15)) {
        let (ms, seq) = event.said.place;
        let () = redis::cmd("XCLAIM")
            .arg(STREAM)
            .arg("processor-group")
            .arg("dead")
            .arg(0)
            .arg(format!("{ms}-{seq}"))
            .arg("IDLE")
            .arg(3_600_000)
            .arg("FORCE")
            .arg("JUSTID")
            .query_async::<redis::Value>(&mut world.redis.clone())
            .await
            .map(drop)
            .unwrap();
    }
}
