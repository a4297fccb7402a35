//! A lock that all instances share, in Redis: one holder at a time, for as long as it shows life.
//!
//! The key holds a token that only its holder knows. Extending and releasing are done by the server, and only for that
//! token: whoever has lost the lock cannot disturb the next holder. Time is the server's; here only a clock that never
//! jumps is looked at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::stores::{RedisConnection, StoreError, other_type};

const EXTEND: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A lock that is held. Dropped without being released, it ends with its time.
#[derive(Debug)]
pub struct Lock {
    key: String,
    token: String,
    ttl: Duration,
    redis: RedisConnection,
    lost: CancellationToken,
    valid: Valid,
    /// Ends the renewing with the lock.
    _renewing: DropGuard,
}

impl Lock {
    /// Takes the lock if nobody holds it, and keeps it until it is released, dropped or lost. Should this process die,
    /// others wait for `ttl`.
    ///
    /// # Errors
    /// Redis's, or when the key holds what no lock is: it is not ours to remove.
    pub async fn acquire(
        redis: &RedisConnection,
        key: &str,
        ttl: Duration,
    ) -> Result<Option<Self>, StoreError> {
        let mut redis = redis.clone();
        let token = Uuid::new_v4().to_string();
        let valid = Valid::until(Instant::now() + ttl);
        let answer: Option<String> = redis::cmd("SET")
            .arg(key)
            .arg(&token)
            .arg("NX")
            .arg("PX")
            .arg(ttl.as_millis() as u64)
            .query_async(&mut redis)
            .await
            .map_err(|error| StoreError::redis("taking a lock", &error))?;
        if answer.is_none() {
            let during = "looking at a lock";
            let found = other_type(&mut redis, key, "string")
                .await
                .map_err(|error| StoreError::redis(during, &error))?;
            return match found {
                Some(found) => Err(StoreError::wrong_type(during, key, &found, "string")),
                None => Ok(None),
            };
        }
        let (lost, ended) = (CancellationToken::new(), CancellationToken::new());
        let renewer = Renewer {
            redis: redis.clone(),
            key: key.to_owned(),
            token: token.clone(),
            ttl,
            lost: lost.clone(),
            valid: valid.clone(),
        };
        tokio::spawn(renewer.run(ended.clone()));
        Ok(Some(Self {
            key: key.to_owned(),
            token,
            ttl,
            redis,
            lost,
            valid,
            _renewing: ended.drop_guard(),
        }))
    }

    /// Cancelled once the lock may be somebody else's: work must stop at its next step.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Asks the server, and extends. To be asked before each step; `false` means that the work must stop. A server that
    /// cannot be asked has taken nothing away before the lock's time is over.
    pub async fn is_held(&self) -> bool {
        if self.lost.is_cancelled() {
            return false;
        }
        let asked = Instant::now();
        let extended = extend(&mut self.redis.clone(), &self.key, &self.token, self.ttl).await;
        match extended {
            Ok(true) => self.valid.extend(asked + self.ttl),
            Err(_) if self.valid.left() > Duration::ZERO => {}
            Ok(false) | Err(_) => self.lost.cancel(),
        }
        !self.lost.is_cancelled()
    }

    /// Lets go of the lock. `false` when it was lost before.
    ///
    /// # Errors
    /// Redis's; then it ends with its time.
    pub async fn release(mut self) -> Result<bool, StoreError> {
        let released: u64 = redis::cmd("EVAL")
            .arg(RELEASE)
            .arg(1)
            .arg(&self.key)
            .arg(&self.token)
            .query_async(&mut self.redis)
            .await
            .map_err(|error| StoreError::redis("releasing a lock", &error))?;
        Ok(released == 1)
    }
}

async fn extend(
    redis: &mut RedisConnection,
    key: &str,
    token: &str,
    ttl: Duration,
) -> Result<bool, StoreError> {
    let extended: u64 = redis::cmd("EVAL")
        .arg(EXTEND)
        .arg(1)
        .arg(key)
        .arg(token)
        .arg(ttl.as_millis() as u64)
        .query_async(redis)
        .await
        .map_err(|error| StoreError::redis("extending a lock", &error))?;
    Ok(extended == 1)
}

/// Until when the server keeps the lock at least, as far as this process knows. Cloning shares it.
#[derive(Debug, Clone)]
struct Valid(Arc<Mutex<Instant>>);

impl Valid {
    fn until(instant: Instant) -> Self {
        Self(Arc::new(Mutex::new(instant)))
    }

    fn extend(&self, until: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = until.max(*known);
    }

    fn left(&self) -> Duration {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.saturating_duration_since(Instant::now())
    }
}

struct Renewer {
    redis: RedisConnection,
    key: String,
    token: String,
    ttl: Duration,
    lost: CancellationToken,
    valid: Valid,
}

impl Renewer {
    /// Extends three times as often as necessary. The lock counts as lost when the server says so, or when it could not
    /// be asked for so long that its time may be over.
    async fn run(mut self, ended: CancellationToken) {
        let mut pause = self.ttl / 3;
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = self.lost.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let left = self.valid.left();
            let asked = Instant::now();
            let extending = extend(&mut self.redis, &self.key, &self.token, self.ttl);
            match tokio::time::timeout(left, extending).await {
                Ok(Ok(true)) => {
                    self.valid.extend(asked + self.ttl);
                    pause = self.ttl / 3;
                }
                Ok(Err(_)) | Err(_) if self.valid.left() > Duration::ZERO => pause = self.ttl / 20,
                _ => {
                    tracing::warn!(
                        lock = self.key,
                        "lock lost: the work under it stops at its next step"
                    );
                    self.lost.cancel();
                    return;
                }
            }
        }
    }
}
