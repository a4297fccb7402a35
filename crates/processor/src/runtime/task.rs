//! What a loop works under.

use std::time::Duration;

use super::pulse::Pulse;
use super::shutdown::Shutdown;

/// What a loop works under: its sign of life, when it has to stop, and how patient it is with stores. Cloning shares the
/// first two.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its sign of life.
    pub pulse: Pulse,
    /// When it has to stop.
    pub shutdown: Shutdown,
    /// How often a failing operation is repeated.
    pub patience: Patience,
}

/// How often a failing operation is repeated before it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patience {
    /// Until the store is back.
    #[default]
    Endless,
    /// As often as the operation's preset says.
    Preset,
    /// Not at all.
    Once,
}

impl Task {
    /// A loop of this name, which has to show life every `stale_after`.
    pub fn new(name: &'static str, stale_after: Duration, shutdown: &Shutdown) -> Self {
        Self {
            pulse: Pulse::new(name, stale_after),
            shutdown: shutdown.clone(),
            patience: Patience::default(),
        }
    }

    /// The same, for operations that are to be given up when their preset is exhausted rather than repeated until the
    /// store is back.
    #[must_use]
    pub fn within_presets(&self) -> Self {
        Self {
            patience: Patience::Preset,
            ..self.clone()
        }
    }

    /// The same, for operations that are to be tried a single time.
    #[must_use]
    pub fn once(&self) -> Self {
        Self {
            patience: Patience::Once,
            ..self.clone()
        }
    }

    /// Whether nothing new may be begun.
    pub fn is_draining(&self) -> bool {
        self.shutdown.draining().is_cancelled()
    }
}
