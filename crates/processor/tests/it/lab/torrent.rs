//! Events at a rate into all streams of a cluster, whatever happens to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use qurvo_processor::event::{Spread, partition};
use redis::cluster_async::ClusterConnection;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::reach::clustered::{Clustered, LONG, STREAMS, connect};
use crate::support::{PROJECT, eventually};

/// Persons who act, equally often.
const PERSONS: usize = 20_000;
/// Visits of a person: each begins with an id of its own, and ends with being identified.
const VISIT: usize = 20;
/// Entries in one write.
pub(super) const PIPELINE: usize = 200;
const TICK: Duration = Duration::from_millis(20);

/// One entry, with the time it has for ever: an event that is added again is the same event.
struct Entry {
    id: Uuid,
    fields: Vec<(&'static str, String)>,
}

/// What a run sends.
pub(super) struct Torrent {
    taken: Arc<AtomicUsize>,
    again: Arc<AtomicUsize>,
    generating: JoinHandle<BTreeSet<Uuid>>,
    sending: Vec<JoinHandle<()>>,
}

impl Torrent {
    pub(super) fn start(clustered: &Clustered, count: usize, per_second: usize) -> Self {
        let (taken, again) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (mut ways, mut sending) = (Vec::new(), Vec::new());
        for stream in STREAMS {
            let (way, entries) = unbounded_channel();
            ways.push(way);
            let counts = (taken.clone(), again.clone());
            sending.push(tokio::spawn(send(stream, clustered.nodes(), entries, counts)));
        }
        Self {
            taken,
            again,
            generating: tokio::spawn(generate(count, per_second, ways)),
            sending,
        }
    }

    /// Waits until the streams have taken so many.
    pub(super) async fn reaches(&self, count: usize) {
        let limit = Duration::from_mins(10);
        eventually("so many events were sent", limit, async || self.taken() >= count).await;
    }

    /// How many the streams have taken, counted once they have said so.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until all are sent. Returns their ids, and how many were added more often than once, as far as is known.
    pub(super) async fn end(self) -> (BTreeSet<Uuid>, usize) {
        let sent = self.generating.await.unwrap();
        for sender in self.sending {
            tokio::time::timeout(LONG, sender).await.unwrap().unwrap();
        }
        (sent, self.again.load(Ordering::Relaxed))
    }
}

async fn generate(count: usize, per_second: usize, ways: Vec<UnboundedSender<Entry>>) -> BTreeSet<Uuid> {
    let mut ids = BTreeSet::new();
    let mut ticks = tokio::time::interval(TICK);
    let begun = tokio::time::Instant::now();
    while ids.len() < count {
        ticks.tick().await;
        let due = (begun.elapsed().as_secs_f64() * per_second as f64) as usize;
        while ids.len() < due.min(count) {
            let (distinct_id, entry) = event(ids.len());
            ids.insert(entry.id);
            let place = partition(Spread::DistinctId, PROJECT, &distinct_id, ways.len());
            ways[place].send(entry).unwrap();
        }
    }
    ids
}

/// The `n`-th event, and whose it is.
fn event(n: usize) -> (String, Entry) {
    let (person, act) = (n % PERSONS, n / PERSONS);
    let (user, anonymous) = (
        format!("user-{person}"),
        format!("visitor-{person}-{}", act / VISIT),
    );
    let id = Uuid::new_v4();
    let mut fields = vec![
        ("event_id", id.to_string()),
        ("project_id", PROJECT.to_owned()),
        ("timestamp", format!("{:.3}", jiff::Timestamp::now())),
    ];
    // Events of a person are spread over the run, so each kind is, too.
    let distinct_id = match (act + person) % VISIT {
        0..4 => {
            fields.push(("event_name", "page".to_owned()));
            anonymous
        }
        4 => {
            fields.push(("event_name", "$identify".to_owned()));
            fields.push(("event_type", "identify".to_owned()));
            fields.push(("anonymous_id", anonymous));
            fields.push(("user_properties", format!(r#"{{"visits":{act}}}"#)));
            user
        }
        5 => {
            fields.push(("event_name", "set".to_owned()));
            fields.push(("user_properties", format!(r#"{{"last":{n}}}"#)));
            user
        }
        _ => {
            fields.push(("event_name", "page".to_owned()));
            fields.push(("properties", format!(r#"{{"n":{n}}}"#)));
            user
        }
    };
    fields.push(("distinct_id", distinct_id.clone()));
    (distinct_id, Entry { id, fields })
}

/// Adds the entries of one stream in their order, each until it is taken, as an ingest service does: what was added and
/// not answered is added once more.
async fn send(
    stream: &'static str,
    nodes: Vec<String>,
    mut entries: UnboundedReceiver<Entry>,
    (taken, again): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let mut client = connect(nodes.clone()).await.unwrap();
    let mut some = Vec::new();
    while entries.recv_many(&mut some, PIPELINE).await > 0 {
        while !add(&mut client, stream, &some).await {
            again.fetch_add(some.len(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            // This client waits for a node that stands still; a new one passes it over.
            let others = nodes.iter().filter(|_| rand::random::<bool>());
            if let Ok(new) = connect(others.cloned().collect()).await {
                client = new;
            }
        }
        taken.fetch_add(some.len(), Ordering::Relaxed);
        some.clear();
    }
}

async fn add(client: &mut ClusterConnection, stream: &str, entries: &[Entry]) -> bool {
    let mut pipeline = redis::pipe();
    for entry in entries {
        pipeline
            .cmd("XADD")
            .arg(stream)
            .arg("*")
            .arg(&entry.fields)
            .ignore();
    }
    pipeline.query_async::<()>(client).await.is_ok()
}
