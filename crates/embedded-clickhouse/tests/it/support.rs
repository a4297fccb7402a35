//! A server on a free port over a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub(crate) const USER: &str = "someone";
pub(crate) const PASSWORD: &str = "it's a secret";

/// Longest a server may take to answer, or to end.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) struct Server {
    process: Child,
    pub(crate) url: String,
}

/// Where `./dev` keeps the engine, unless the environment names another place.
fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("LIBCHDB_PATH") {
        return path.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    let folders = std::fs::read_dir(cache.join("qurvo-processor")).unwrap();
    folders
        .flatten()
        .map(|folder| folder.path().join("libchdb.so"))
        .find(|path| path.is_file())
        .unwrap()
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embedded-clickhouse"));
    command
        .args(["--listen", "127.0.0.1:0", "--user", USER, "--password", PASSWORD])
        .arg("--library")
        .arg(library())
        .arg("--data")
        .arg(data)
        .arg("--port-file")
        .arg(data.join("port"));
    command
}

impl Server {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Self {
        // Where the whole workspace is built, the requests' client knows TLS, and wants a provider even for plain HTTP.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        std::fs::create_dir_all(data).unwrap();
        let port_file = data.join("port");
        let _may_be_absent = std::fs::remove_file(&port_file);
        let mut process = command(data)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let port = loop {
            let port = std::fs::read_to_string(&port_file).unwrap_or_default();
            if !port.is_empty() {
                break port;
            }
            assert!(process.try_wait().unwrap().is_none(), "the server ended at once");
            assert!(started.elapsed() < LIMIT, "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        };
        Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// A second process over the same folder: how it ended and what it said.
    pub(crate) fn second(data: &Path) -> (ExitStatus, String) {
        let output = command(data).output().unwrap();
        (
            output.status,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    pub(crate) fn client(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(&self.url)
            .with_user(USER)
            .with_password(PASSWORD)
    }

    /// A request by hand, with the right user.
    pub(crate) fn post(&self, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let url = url::Url::parse_with_params(&self.url, query).unwrap();
        reqwest::Client::new().post(url).basic_auth(USER, Some(PASSWORD))
    }

    /// The text of a statement's answer, which must be good.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        let response = self.post(&[]).body(sql.to_owned()).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{sql}: {status}: {text}");
        text.trim_end().to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < LIMIT, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _may_have_ended = self.process.kill();
        let _may_have_ended = self.process.wait();
    }
}

/// A fresh server; the folder lives as long as the pair.
pub(crate) fn server() -> (Server, TempDir) {
    let data = tempfile::tempdir().unwrap();
    (Server::start(data.path()), data)
}
