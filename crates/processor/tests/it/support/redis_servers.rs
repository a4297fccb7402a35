//! Servers of a test's own, beside the one of its stack: sockets, replicas, Sentinels.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{SOON, eventually};

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A `redis-server` on loopback; killed when dropped.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) port: u16,
    folder: PathBuf,
}

impl RedisServer {
    /// Starts one that keeps its files in a folder below `parent`, with more of what its command line takes.
    pub(crate) async fn start(parent: &Path, arguments: &[&str]) -> Self {
        Self::start_program("redis-server", parent, arguments).await
    }

    /// The same of another program that takes the same command line.
    pub(crate) async fn start_program(program: &str, parent: &Path, arguments: &[&str]) -> Self {
        let port = free_port();
        let folder = parent.join(format!("redis-{port}"));
        std::fs::create_dir_all(&folder).unwrap();
        let config = folder.join("redis.conf");
        std::fs::write(&config, format!("port {port}\nbind 127.0.0.1\nsave \"\"\n")).unwrap();
        let child = Command::new(program)
            .arg(&config)
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; `./dev test` installs it"));
        let server = Self { child, port, folder };
        let accepts = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        eventually("the server listens", SOON, accepts).await;
        server
    }

    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}
