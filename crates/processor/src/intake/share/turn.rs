//! Whether a reader may read its stream now.

use std::time::Duration;

use tokio::sync::watch;

use crate::runtime::lock::LockHandle;

/// A lease that is doubtful is asked about again after this.
const SOON: Duration = Duration::from_millis(50);

/// What the reader of a stream is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Something may come.
    Reads,
    /// The same, and first what it owes.
    ReadsAgain,
    /// Nothing comes.
    Stands,
    /// Nothing comes, but something that Redis has given to this instance may not have come: a predecessor's, or a reply
    /// that a broken connection swallowed. It has to be asked for again before what follows it is read.
    Owes,
}

impl Reading {
    /// Whether something that Redis has given to this instance may not have come.
    pub(super) fn owes(self) -> bool {
        matches!(self, Self::Owes | Self::ReadsAgain)
    }
}

/// A reader's leave. A read is begun only while more of a lease is left than a read takes, so that two instances never
/// read one stream's fresh entries at once.
pub(crate) enum Turn {
    /// Every instance reads every stream.
    Always,
    /// Instances share the streams out among themselves.
    Shared {
        /// The lease of the stream, while this instance has it and is to read.
        lease: watch::Receiver<Option<LockHandle>>,
        /// What the reader is at.
        reading: watch::Sender<Reading>,
    },
}

impl Turn {
    /// Whether a read may begin now.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Always => true,
            Self::Shared { lease, .. } => lease.borrow().as_ref().is_some_and(|lease| !lease.is_doubtful()),
        }
    }

    /// Waits until a read may begin.
    pub(crate) async fn wait(&mut self) {
        while !self.is_ours() {
            let Self::Shared { lease, .. } = self else { return };
            // A lease that is doubtful becomes certain, or another's, without being said.
            let _unchanged = tokio::time::timeout(SOON, lease.changed()).await;
        }
    }

    /// Says that something may come from now on, and first what the reader `owes`.
    pub(crate) fn reads(&self, owes: bool) {
        self.says(if owes { Reading::ReadsAgain } else { Reading::Reads });
    }

    /// Says that nothing comes any more. The reader `owes` what Redis has given to it and it has not seen.
    pub(crate) fn stands(&self, owes: bool) {
        self.says(if owes { Reading::Owes } else { Reading::Stands });
    }

    fn says(&self, is_at: Reading) {
        if let Self::Shared { reading, .. } = self {
            reading.send_replace(is_at);
        }
    }
}
