//! A lock that all instances share, in Redis: one holder at a time, for as long as it shows life.
//!
//! The key holds a token that only its holder knows. Extending and releasing are done by the server, and only for that
//! token: an instance that has lost the lock cannot disturb the next holder. Time is the server's. Here clocks are looked
//! at that also count what a machine slept through; one that jumps costs a question.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::metrics;
use crate::stores::{Redis, StoreError, script};

use super::moment::Moment;

const EXTEND: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A lock that is held. Dropped without being released, it ends with its time.
#[derive(Debug)]
pub struct Lock {
    handle: LockHandle,
    /// Ends the renewing with the lock.
    _renewing: DropGuard,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// It is free.
    Nobody,
    /// An instance of this name.
    Named(String),
    /// An instance of a version that notes no name.
    Unnamed,
}

/// What tells work under a lock whether that is still held. Cloning shares it; it keeps nothing locked.
#[derive(Debug, Clone)]
pub struct LockHandle {
    key: String,
    token: String,
    ttl: Duration,
    redis: Redis,
    lost: CancellationToken,
    known: LastConfirmed,
}

impl Lock {
    /// Takes the lock if no instance holds it, and keeps it until it is released, dropped or lost. Should this process die,
    /// others wait for `ttl`.
    ///
    /// # Errors
    /// Redis's, or when the key holds what no lock is: it is not ours to remove.
    pub async fn acquire(redis: &Redis, key: &str, ttl: Duration) -> Result<Option<Self>, StoreError> {
        Self::acquire_with(redis, key, ttl, Uuid::new_v4().to_string()).await
    }

    /// The same, and notes for people who holds it: behind what nobody else knows. To every version the whole is the token.
    ///
    /// # Errors
    /// As for [`Lock::acquire`].
    pub async fn acquire_as(
        redis: &Redis,
        key: &str,
        ttl: Duration,
        holder: &str,
    ) -> Result<Option<Self>, StoreError> {
        Self::acquire_with(redis, key, ttl, format!("{} {holder}", Uuid::new_v4())).await
    }

    async fn acquire_with(
        redis: &Redis,
        key: &str,
        ttl: Duration,
        token: String,
    ) -> Result<Option<Self>, StoreError> {
        let known = LastConfirmed::at(Moment::now());
        let mut set = redis::cmd("SET");
        set.arg(key).arg(&token).arg("NX").arg("PX");
        set.arg(ttl.as_millis() as u64);
        let answer: Option<String> = redis.ask("taking a lock", &set).await?;
        if answer.is_none() {
            redis.check_type("looking at a lock", key, "string").await?;
            return Ok(None);
        }
        let handle = LockHandle {
            key: key.to_owned(),
            token,
            ttl,
            redis: redis.clone(),
            lost: CancellationToken::new(),
            known,
        };
        metrics::lock_held(key, true);
        let ended = CancellationToken::new();
        tokio::spawn(handle.clone().renew(ended.clone()));
        Ok(Some(Self {
            handle,
            _renewing: ended.drop_guard(),
        }))
    }

    /// Who holds a lock, as was noted with [`Lock::acquire_as`].
    ///
    /// # Errors
    /// Redis's, or when the key holds what no lock is.
    pub async fn noted(redis: &Redis, key: &str) -> Result<Noted, StoreError> {
        let mut get = redis::cmd("GET");
        get.arg(key);
        let token: Option<String> = redis.ask_of("looking at a lock", (key, "string"), &get).await?;
        Ok(token.map_or(Noted::Nobody, |token| match token.split_once(' ') {
            Some((_, holder)) => Noted::Named(holder.to_owned()),
            None => Noted::Unnamed,
        }))
    }

    /// For work that goes on under it.
    pub fn handle(&self) -> &LockHandle {
        &self.handle
    }

    /// Cancelled once the lock may be another instance's: work must stop at its next step.
    pub fn lost(&self) -> &CancellationToken {
        &self.handle.lost
    }

    /// See [`LockHandle::is_held`].
    pub async fn is_held(&self) -> bool {
        self.handle.is_held().await
    }

    /// Lets go of the lock. `false` when it was lost before.
    ///
    /// # Errors
    /// Redis's; then it ends with its time.
    pub async fn release(self) -> Result<bool, StoreError> {
        let released: u64 = self
            .handle
            .redis
            .ask(
                "releasing a lock",
                script(RELEASE, &[&self.handle.key]).arg(&self.handle.token),
            )
            .await?;
        Ok(released == 1)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        metrics::lock_held(&self.handle.key, false);
    }
}

impl LockHandle {
    /// The lock's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the key holds while the lock is held here: for scripts that must not do anything without it.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether the lock was last known to be held so long ago that it has to be asked before anything is done that must
    /// not be done twice; or it is lost.
    pub fn is_doubtful(&self) -> bool {
        self.lost.is_cancelled() || self.left() < self.ttl / 2
    }

    /// Asks the server, and extends. To be asked before each step; `false` means that the work must stop. A server that
    /// cannot be asked has taken nothing away before the lock's time is over.
    pub async fn is_held(&self) -> bool {
        if self.lost.is_cancelled() {
            return false;
        }
        match self.extend().await {
            Ok(true) => {}
            Err(_) if self.left() > Duration::ZERO => {}
            Ok(false) | Err(_) => self.lose(),
        }
        !self.lost.is_cancelled()
    }

    fn lose(&self) {
        self.lost.cancel();
        metrics::lock_held(&self.key, false);
    }

    /// For how long the server keeps the lock at least, as far as this process knows.
    pub fn left(&self) -> Duration {
        self.ttl.saturating_sub(self.known.elapsed())
    }

    async fn extend(&self) -> Result<bool, StoreError> {
        let asked = Moment::now();
        let extended: u64 = self
            .redis
            .ask(
                "extending a lock",
                script(EXTEND, &[&self.key])
                    .arg(&self.token)
                    .arg(self.ttl.as_millis() as u64),
            )
            .await?;
        if extended == 1 {
            self.known.again(asked);
        }
        Ok(extended == 1)
    }

    /// Extends three times as often as necessary. The lock counts as lost when the server says so, or when it could not
    /// be asked for so long that its time may be over.
    async fn renew(self, ended: CancellationToken) {
        let mut pause = self.ttl / 3;
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = self.lost.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            // Even if its time seems to be over: only a clock may have jumped.
            let longest = self.left().max(self.ttl / 20);
            match tokio::time::timeout(longest, self.extend()).await {
                Ok(Ok(true)) => pause = self.ttl / 3,
                Ok(Err(_)) | Err(_) if self.left() > Duration::ZERO => pause = self.ttl / 20,
                _ => {
                    tracing::warn!(
                        lock = self.key,
                        "lock lost: the work under it stops at its next step"
                    );
                    self.lose();
                    return;
                }
            }
        }
    }
}

/// When the lock was last known to be held: the server was asked then, and said so. Cloning shares it.
#[derive(Debug, Clone)]
struct LastConfirmed(Arc<Mutex<Moment>>);

impl LastConfirmed {
    fn at(moment: Moment) -> Self {
        Self(Arc::new(Mutex::new(moment)))
    }

    fn again(&self, moment: Moment) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if moment.elapsed() < known.elapsed() {
            *known = moment;
        }
    }

    fn elapsed(&self) -> Duration {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.elapsed()
    }
}
