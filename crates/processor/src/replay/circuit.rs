//! The breaker that all instances share: after some failures no instance replays for a while, then one try decides.

use std::time::Duration;

use crate::stores::{Redis, StoreError, TimeLeft, script};

const FAILURES: &str = "dlq:replay:failures";
const CIRCUIT: &str = "dlq:replay:circuit";
/// Failures are forgotten after this long without one (contract), but never while the circuit is open.
const FAILURES_TTL: Duration = Duration::from_mins(10);

/// Counts a failure, and says whether that opens the circuit. The counter stays one below it, so that the first failure after the
/// circuit has closed by itself opens it again for a whole period. A counter that is no number begins anew.
const FAILED: &str = r"
local found = redis.call('TYPE', KEYS[1]).ok
local counted = found == 'string' and redis.call('GET', KEYS[1]) or '0'
if (found ~= 'string' and found ~= 'none') or not (string.match(counted, '^%d+$') and #counted < 16) then
  redis.call('DEL', KEYS[1])
end
local failures = redis.call('INCR', KEYS[1])
local opens = failures >= tonumber(ARGV[1])
if opens then redis.call('SET', KEYS[1], tonumber(ARGV[1]) - 1) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if opens then return 1 end
return 0";

/// Whether the circuit is open. A key that is none is removed, and one without an end gets it: no other program writes it,
/// and none would close it.
const IS_OPEN: &str = r"
local found = redis.call('TYPE', KEYS[1]).ok
if found == 'none' then return 0 end
if found ~= 'string' then
  redis.call('DEL', KEYS[1])
  return 0
end
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1";

/// Failed replays in a row, of all instances.
///
/// # Errors
/// Redis's.
pub(crate) async fn failures(redis: &Redis) -> Result<u64, StoreError> {
    let failures: Option<u64> = redis
        .ask("reading the circuit", redis::cmd("GET").arg(FAILURES))
        .await?;
    Ok(failures.unwrap_or_default())
}

/// How much longer the circuit is open; nothing when it is closed.
///
/// # Errors
/// Redis's.
pub(crate) async fn open_for(redis: &Redis) -> Result<Option<TimeLeft>, StoreError> {
    redis.time_left("reading the circuit", CIRCUIT).await
}

/// The breaker.
#[derive(Clone)]
pub(super) struct Circuit {
    pub(super) redis: Redis,
    /// Failures in a row that open it.
    pub(super) threshold: u32,
    /// How long it stays open.
    pub(super) reset: Duration,
}

impl Circuit {
    /// Whether no instance may replay now.
    pub(super) async fn is_open(&self) -> Result<bool, StoreError> {
        let mut is_open = script(IS_OPEN, &[CIRCUIT]);
        is_open.arg(self.reset.as_millis() as u64);
        self.redis.ask("reading the circuit", &is_open).await
    }

    /// A store failed while replaying. `true` when that opened the circuit.
    pub(super) async fn failed(&self) -> Result<bool, StoreError> {
        let during = "counting a failure";
        let reset = self.reset.as_millis() as u64;
        let mut failed = script(FAILED, &[FAILURES]);
        failed.arg(self.threshold);
        failed.arg((FAILURES_TTL + self.reset).as_millis() as u64);
        if !self.redis.ask(during, &failed).await? {
            return Ok(false);
        }
        // Keys of two slots. Who ends here leaves the counter one below the threshold: the next failure opens it.
        let mut open = redis::cmd("SET");
        open.arg(&[CIRCUIT, "1", "PX"]).arg(reset);
        self.redis.ask::<()>(during, &open).await?;
        Ok(true)
    }

    /// The stores take work again: the next try decides.
    pub(super) async fn half_open(&self) -> Result<(), StoreError> {
        self.redis
            .ask("closing the circuit", redis::cmd("DEL").arg(CIRCUIT))
            .await
    }

    /// A step succeeded.
    pub(super) async fn succeeded(&self) -> Result<(), StoreError> {
        self.redis
            .delete("closing the circuit", &[FAILURES, CIRCUIT])
            .await
    }
}
