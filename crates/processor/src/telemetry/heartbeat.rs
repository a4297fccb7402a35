//! The heartbeat file that probes read: milliseconds since the epoch, rewritten while every loop shows life.
//!
//! It never says "alive" for a loop that is not, and trouble writing it is a warning, never a reason to stop. A process
//! that waits for a store at its start is alive too: restarting it would not bring the store back.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::Rng;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::runtime::pulse::Pulse;

/// Writes the file; removes a predecessor's at start, and its own when the drain has ended.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    path: PathBuf,
    interval: Duration,
    pulses: watch::Receiver<Vec<Pulse>>,
}

impl Heartbeat {
    /// A heartbeat over whatever `pulses` names at the time. A file left by an earlier run is removed at once: it proves
    /// nothing about this one.
    pub(crate) fn new(path: PathBuf, interval: Duration, pulses: watch::Receiver<Vec<Pulse>>) -> Self {
        remove(&path);
        Self {
            path,
            interval,
            pulses,
        }
    }

    /// Beats until `stop`, then removes the file, unless another process has written it meanwhile.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silent_loops: Vec<&'static str> = Vec::new();
        let mut written = None;
        loop {
            tokio::select! { () = stop.cancelled() => break, _ = ticks.tick() => {} }
            let stale: Vec<&'static str> = self
                .pulses
                .borrow()
                .iter()
                .filter(|p| !p.is_fresh())
                .map(Pulse::name)
                .collect();
            if stale.is_empty() {
                written = write(&self.path).await.or(written);
            } else if stale != silent_loops {
                tracing::error!(loops = ?stale, "no heartbeat: these loops show no progress");
            }
            silent_loops = stale;
        }
        if written.is_some() && tokio::fs::read_to_string(&self.path).await.ok() == written {
            remove(&self.path);
        }
    }
}

/// Returns what is in the file now, if that is ours.
async fn write(path: &Path) -> Option<String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis()
        .to_string();
    match replace(path, now.as_bytes()).await {
        Ok(()) => Some(now),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "heartbeat file could not be written");
            None
        }
    }
}

/// Replaces a file as a whole. Its folder may be one where any user may put files, such as `/tmp`: the draft beside it has
/// a name that cannot be known before and is made by us or not at all, and renaming follows no link.
async fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", rand::rng().random::<u64>()));
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(&draft).await?;
    let written = async {
        file.write_all(content).await?;
        file.flush().await
    };
    let mut replaced = written.await;
    if replaced.is_ok() {
        replaced = tokio::fs::rename(&draft, path).await;
    }
    if replaced.is_err() {
        let _nothing_is_left = tokio::fs::remove_file(&draft).await;
    }
    replaced
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "old heartbeat file could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn links_that_others_have_put_there_are_replaced_and_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beat");
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "theirs").unwrap();
        for link in ["beat", "beat.tmp"] {
            std::os::unix::fs::symlink(&precious, folder.path().join(link)).unwrap();
        }
        let written = write(&path).await;
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "theirs");
        assert_eq!(std::fs::read_to_string(&path).ok(), written);
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            3,
            "no draft is left"
        );
        // A folder cannot be replaced by a file.
        let busy = folder.path().join("busy");
        std::fs::create_dir(&busy).unwrap();
        assert_eq!(write(&busy).await, None);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            4,
            "no draft is left"
        );
    }

    #[tokio::test]
    async fn beats_while_fresh_stops_while_stale_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beat");
        std::fs::write(&path, "0").unwrap();
        let pulse = Pulse::new("loop", Duration::ZERO);
        pulse.alive_for(Duration::from_millis(300));
        let (_pulses, watched) = watch::channel(vec![pulse.clone()]);
        let heartbeat = Heartbeat::new(path.clone(), Duration::from_millis(10), watched);
        assert!(!path.exists(), "the file of an earlier run must go");
        let stop = CancellationToken::new();
        let task = tokio::spawn(heartbeat.run(stop.clone()));
        wait_for("a first beat", || path.exists()).await;
        wait_for("the pulse to go stale", || !pulse.is_fresh()).await;
        let last = std::fs::read_to_string(&path).unwrap().parse::<u128>().unwrap();
        pulse.alive_for(Duration::from_mins(1));
        wait_for("beats to resume", || {
            std::fs::read_to_string(&path).is_ok_and(|t| t.parse::<u128>().is_ok_and(|t| t > last))
        })
        .await;
        stop.cancel();
        task.await.unwrap();
        assert!(!path.exists());
    }
}
