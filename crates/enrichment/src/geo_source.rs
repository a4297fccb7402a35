//! Where the GeoIP database comes from: a file that is watched, or a download that is refreshed.
//!
//! A new database is used only after it was opened. Until then, and while none can be had, the old one stays in use.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::geo::{GeoDatabase, GeoIp, InvalidDatabase};

/// Where to get a database, how often, and within which limits.
#[derive(Debug, Clone)]
pub struct GeoSettings {
    /// The file of a database. Takes precedence over the URL.
    pub database: Option<PathBuf>,
    /// The URL to download one from.
    pub url: Option<Url>,
    /// The file that a download is kept in.
    pub cache: PathBuf,
    /// A download older than this is fetched again.
    pub max_age: Duration,
    /// How often to check whether anything has to be done.
    pub check_interval: Duration,
    /// Longest one download may take.
    pub timeout: Duration,
    /// Most attempts at one download.
    pub attempts: u32,
    /// The n-th wait between attempts is n times this.
    pub pause: Duration,
    /// Largest download, in bytes.
    pub max_bytes: usize,
}

impl Default for GeoSettings {
    fn default() -> Self {
        Self {
            database: None,
            url: None,
            cache: PathBuf::from("/tmp/GeoLite2-Country.mmdb"),
            max_age: Duration::from_hours(30 * 24),
            check_interval: Duration::from_mins(1),
            timeout: Duration::from_secs(30),
            attempts: 3,
            pause: Duration::from_secs(2),
            max_bytes: 256 * 1024 * 1024,
        }
    }
}

/// Why there is no new database.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("{0}")]
    Invalid(#[from] InvalidDatabase),
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("the download is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the loading task ended")]
    Ended,
}

impl GeoSettings {
    /// Starts a task that loads or downloads the database and keeps it current. Until it has one no place is found; a start
    /// never waits for it and never fails because of it.
    pub fn start(self, stop: CancellationToken) -> (GeoIp, JoinHandle<()>) {
        let geo = GeoIp::default();
        let task = tokio::spawn(self.keep_current(geo.clone(), stop));
        (geo, task)
    }

    /// Loads, downloads, refreshes, until `stop`.
    pub(crate) async fn keep_current(self, geo: GeoIp, stop: CancellationToken) {
        let mut loaded: Option<SystemTime> = None;
        let mut warned = false;
        loop {
            let round = tokio::select! {
                () = stop.cancelled() => return,
                round = self.round(&geo, loaded) => round,
            };
            match round {
                Ok(modified) => {
                    loaded = modified.or(loaded);
                    warned = false;
                }
                Err(error) if !warned => {
                    warned = true;
                    let state = if geo.is_ready() {
                        "keeping the old one"
                    } else {
                        "events get no country"
                    };
                    // A URL may hold a licence's key.
                    let file = self
                        .database
                        .as_deref()
                        .map(|file| tracing::field::display(file.display()));
                    tracing::warn!(%error, file, "no new GeoIP database: {state}");
                }
                Err(error) => tracing::debug!(%error, "still no new GeoIP database"),
            }
            // After a failure a download is not repeated every minute.
            let pause = if warned && self.database.is_none() {
                self.check_interval * 10
            } else {
                self.check_interval
            };
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        }
    }

    /// Loads or downloads what is due. Returns the modification time of the file that was loaded, if one was.
    async fn round(
        &self,
        geo: &GeoIp,
        loaded: Option<SystemTime>,
    ) -> Result<Option<SystemTime>, SourceError> {
        if let Some(file) = &self.database {
            return load_if_changed(geo, file, loaded).await;
        }
        let Some(url) = &self.url else { return Ok(None) };
        let age = modified(&self.cache).await.and_then(|at| at.elapsed().ok());
        // A cached database, however old, is used while a new one is fetched; a damaged one is discarded.
        let cached = if age.is_some() {
            load_if_changed(geo, &self.cache, loaded).await
        } else {
            Ok(None)
        };
        if cached.is_err() {
            tokio::fs::remove_file(&self.cache).await?;
        } else if age.is_some_and(|age| age < self.max_age) {
            return cached;
        }
        self.download(url).await?;
        load_if_changed(geo, &self.cache, None).await
    }

    async fn download(&self, url: &Url) -> Result<(), SourceError> {
        let mut attempt = 1;
        loop {
            match self.attempt(url).await {
                Ok(()) => return Ok(()),
                Err(error) if attempt == self.attempts => return Err(error),
                Err(error) => tracing::debug!(%error, attempt, "GeoIP download failed"),
            }
            tokio::time::sleep(self.pause * attempt).await;
            attempt += 1;
        }
    }

    /// Downloads to a temporary file beside the final one, opens it to verify it, and renames it.
    async fn attempt(&self, url: &Url) -> Result<(), SourceError> {
        let temporary = self
            .cache
            .with_extension(format!("download-{}", std::process::id()));
        let fetched = self.fetch(url, &temporary).await;
        if fetched.is_err() {
            let _nothing_was_written = tokio::fs::remove_file(&temporary).await;
        }
        fetched?;
        if let Err(error) = open(&temporary).await {
            tokio::fs::remove_file(&temporary).await?;
            return Err(error);
        }
        tokio::fs::rename(&temporary, &self.cache).await?;
        Ok(())
    }

    async fn fetch(&self, url: &Url, file: &Path) -> Result<(), SourceError> {
        // reqwest brings no provider of its own and panics without one; a program that has chosen one keeps it.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(self.timeout).build()?;
        let mut response = client.get(url.clone()).send().await?.error_for_status()?;
        // Other users may be able to put files into the folder: a file that is already there may be a link, and is never
        // opened.
        match tokio::fs::remove_file(file).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut options = tokio::fs::OpenOptions::new();
        let mut out = options.write(true).create_new(true).open(file).await?;
        let mut written = 0;
        while let Some(piece) = response.chunk().await? {
            written += piece.len();
            if written > self.max_bytes {
                return Err(SourceError::TooLarge(self.max_bytes));
            }
            out.write_all(&piece).await?;
        }
        out.sync_all().await?;
        Ok(())
    }
}

async fn modified(file: &Path) -> Option<SystemTime> {
    tokio::fs::metadata(file).await.ok()?.modified().ok()
}

async fn load_if_changed(
    geo: &GeoIp,
    file: &Path,
    loaded: Option<SystemTime>,
) -> Result<Option<SystemTime>, SourceError> {
    let at = tokio::fs::metadata(file).await?.modified()?;
    if loaded == Some(at) {
        return Ok(None);
    }
    geo.replace(open(file).await?);
    tracing::info!(file = %file.display(), "GeoIP database in use");
    Ok(Some(at))
}

async fn open(file: &Path) -> Result<GeoDatabase, SourceError> {
    let file = file.to_owned();
    let opened = tokio::task::spawn_blocking(move || GeoDatabase::open(&file)).await;
    Ok(opened.map_err(|_| SourceError::Ended)??)
}
