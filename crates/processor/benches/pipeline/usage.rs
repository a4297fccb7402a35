//! What processes have used: CPU time, bytes written to disk, memory; and what the engine has done.

use std::collections::HashMap;
use std::time::Instant;

use crate::world::{World, pid};

/// Of a process, its children, and the children that it has waited for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// User and system time.
    pub(crate) seconds: f64,
    /// What was written to files, as far as it is to reach the disk.
    pub(crate) bytes: f64,
}

impl Used {
    fn since(self, before: Self) -> Self {
        Self {
            seconds: self.seconds - before.seconds,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// All processes at one moment, or what they used between two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    at: Instant,
    /// Between two moments, of the clock on the wall.
    pub(crate) seconds: f64,
    pub(crate) worker: Used,
    pub(crate) redis: Used,
    pub(crate) postgres: Used,
    pub(crate) clickhouse: Used,
    /// This benchmark and the children it has waited for.
    pub(crate) own: f64,
    /// The whole machine.
    pub(crate) machine: f64,
    pub(crate) engine: Engine,
}

/// What the engine counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Engine {
    pub(crate) inserts: f64,
    /// Parts that inserts made.
    pub(crate) parts: f64,
    pub(crate) merged_rows: f64,
}

impl Usage {
    /// As of now. No worker uses nothing.
    pub(crate) async fn now(world: &World, worker: Option<u32>) -> Self {
        let redis = pid(world.stack.redis().unwrap()).await;
        Self::of(world, worker.as_slice(), &[redis]).await
    }

    /// The same of several workers, and other servers of Redis.
    pub(crate) async fn of(world: &World, workers: &[u32], redis: &[u32]) -> Self {
        let engine = Engine::now(world).await;
        let (postgres, clickhouse) = (
            pid(world.stack.postgres().unwrap()).await,
            pid(world.stack.clickhouse().unwrap()).await,
        );
        let processes = Processes::now();
        Self {
            at: Instant::now(),
            seconds: 0.0,
            worker: processes.of_all(workers),
            redis: processes.of_all(redis),
            postgres: processes.of(postgres),
            clickhouse: processes.of(clickhouse),
            own: processes
                .used
                .get(&std::process::id())
                .map_or(0.0, |used| used.seconds),
            machine: machine(),
            engine,
        }
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            at: self.at,
            seconds: (self.at - before.at).as_secs_f64(),
            worker: self.worker.since(before.worker),
            redis: self.redis.since(before.redis),
            postgres: self.postgres.since(before.postgres),
            clickhouse: self.clickhouse.since(before.clickhouse),
            own: self.own - before.own,
            machine: self.machine - before.machine,
            engine: Engine {
                inserts: self.engine.inserts - before.engine.inserts,
                parts: self.engine.parts - before.engine.parts,
                merged_rows: self.engine.merged_rows - before.engine.merged_rows,
            },
        }
    }

    /// Share of the machine that processes used which have nothing to do with this.
    pub(crate) fn others(&self) -> f64 {
        let services = self.redis.seconds + self.postgres.seconds + self.clickhouse.seconds;
        let ours = self.worker.seconds + services + self.own;
        ((self.machine - ours) / (self.seconds * cores())).max(0.0)
    }
}

impl Engine {
    async fn now(world: &World) -> Self {
        let of = |event: &str| format!("sumIf(value, event = '{event}')");
        let sql = format!(
            "SELECT {}, {}, {} FROM system.events",
            of("InsertQuery"),
            of("MergeTreeDataWriterBlocks"),
            of("MergedRows")
        );
        let answer = world.ask(&sql).await;
        let mut values = answer.split('\t').map(|value| value.parse().unwrap());
        let mut next = || values.next().unwrap();
        Self {
            inserts: next(),
            parts: next(),
            merged_rows: next(),
        }
    }
}

/// Every process by its number.
struct Processes {
    parents: HashMap<u32, Vec<u32>>,
    used: HashMap<u32, Used>,
}

impl Processes {
    fn now() -> Self {
        let (mut parents, mut used) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // One that has ended meanwhile is counted by its parent.
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
                continue;
            };
            let (_, fields) = stat.rsplit_once(')').unwrap();
            let fields: Vec<&str> = fields.split_whitespace().collect();
            let times = fields[11..15].iter().map(|field| field.parse::<f64>().unwrap());
            // The kernel counts in hundredths of a second on every platform this runs on.
            let seconds = times.sum::<f64>() / 100.0;
            parents.entry(fields[1].parse().unwrap()).or_default().push(pid);
            let bytes = written(pid);
            used.insert(pid, Used { seconds, bytes });
        }
        Self { parents, used }
    }

    fn of_all(&self, pids: &[u32]) -> Used {
        let mut all = Used::default();
        for pid in pids {
            let one = self.of(*pid);
            all.seconds += one.seconds;
            all.bytes += one.bytes;
        }
        all
    }

    fn of(&self, pid: u32) -> Used {
        let mut all = self.used.get(&pid).copied().unwrap_or_default();
        let children = self.parents.get(&pid).map_or(&[][..], Vec::as_slice);
        let children = self.of_all(children);
        all.seconds += children.seconds;
        all.bytes += children.bytes;
        all
    }
}

/// Bytes of the pages of files that a process and the children it has waited for have made dirty.
fn written(pid: u32) -> f64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

/// Busy seconds of all cores.
fn machine() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let times = stat.lines().next().unwrap().split_whitespace().skip(1);
    let times: Vec<f64> = times.map(|time| time.parse().unwrap()).collect();
    // Of user, nice, system, idle, waiting for the disk, two kinds of interrupts and stolen, all but two are work.
    times
        .iter()
        .take(8)
        .enumerate()
        .filter(|(n, _)| !matches!(n, 3 | 4))
        .map(|(_, time)| time)
        .sum::<f64>()
        / 100.0
}

/// Cores that the benchmark may use.
pub(crate) fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Most memory that a process has had since the last [`forget_peak`], in MB; nothing when it is gone.
pub(crate) fn peak_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or_default() / 1024.0
}

/// From now on the process has no peak but what it has now.
pub(crate) fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}
