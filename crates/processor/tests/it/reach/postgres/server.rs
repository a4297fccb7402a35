//! What a test makes of its PostgreSQL: who may connect how, which certificate it shows, and programs beside it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use embedded_stack::ServiceState;

use crate::support::certificates::{Authority, Certified};
use crate::support::{SOON, World, eventually};

/// The tests themselves come in by this line, whatever others may.
const OWN: &str = "host all qurvo 127.0.0.1/32 scram-sha-256\n";

impl World {
    /// Lets clients in by these lines of `pg_hba.conf`, those of the user `app` that is made for it among them.
    pub(super) async fn lets_in(&self, lines: &str) {
        let file = self.cluster().await.join("pg_hba.conf");
        fs::write(file, format!("{OWN}{lines}\n")).unwrap();
        self.reload("SELECT 1").await;
    }

    /// The user whom [`World::lets_in`] is about. Its password needs encoding in a URL.
    pub(super) async fn has_app(&self) {
        self.pg("CREATE ROLE app SUPERUSER LOGIN PASSWORD 'p@ss/word'")
            .await;
    }

    /// Shows this certificate to clients, and believes their certificates when this authority has signed them.
    pub(super) async fn shows(&self, server: &Certified, clients: &Authority) {
        let (certificate, key) = (
            self.gives("server.crt", &server.certificate).await,
            self.gives("server.key", &server.key).await,
        );
        let authority = self.gives("clients.crt", &clients.file).await;
        for (setting, value) in [
            ("ssl_cert_file", certificate.to_str().unwrap()),
            ("ssl_key_file", key.to_str().unwrap()),
            ("ssl_ca_file", authority.to_str().unwrap()),
            ("ssl", "on"),
        ] {
            self.pg(&format!("ALTER SYSTEM SET {setting} = '{value}'")).await;
        }
        self.reload("SELECT 1").await;
    }

    /// Puts a file into the server's folder, readable for its account alone.
    async fn gives(&self, name: &str, from: &Path) -> PathBuf {
        let to = self.cluster().await.join(name);
        fs::copy(from, &to).unwrap();
        let owner = fs::metadata(to.parent().unwrap()).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        to
    }

    /// The folder of the server's data.
    pub(super) async fn cluster(&self) -> PathBuf {
        self.pg("SHOW data_directory").await.remove(0).into()
    }

    /// Makes a change of the configuration, and waits until new connections have it.
    pub(super) async fn reload(&self, change: &str) {
        const LOADED: &str = "SELECT pg_conf_load_time()::text";
        self.pg(change).await;
        let before = self.pg(LOADED).await;
        self.pg("SELECT pg_reload_conf()").await;
        eventually("the configuration is loaded", SOON, async || {
            self.pg(LOADED).await != before
        })
        .await;
    }

    /// `DATABASE_URL` of `app` for a host, with parameters.
    pub(super) fn app_url(&self, host: &str, parameters: &str) -> String {
        let port = self.stack.postgres().unwrap().port();
        format!("postgresql://app:p%40ss%2Fword@{host}:{port}/qurvo_analytics?{parameters}")
    }

    /// What `check` says of PostgreSQL, and whether all is well: without what it says of other stores.
    pub(super) fn checked(&self, url: &str) -> (bool, String) {
        let output = self.output(&["check", "--json"], &[("DATABASE_URL", url)]);
        let Ok(findings) = serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout) else {
            return (false, String::from_utf8_lossy(&output.stderr).into_owned());
        };
        let of_postgres = findings
            .iter()
            .filter(|finding| finding["what"].as_str().unwrap().starts_with("PostgreSQL"));
        let told = of_postgres
            .clone()
            .map(|finding| format!("{}: {}\n", finding["state"].as_str().unwrap(), finding["detail"]));
        let is_well = of_postgres.clone().all(|finding| finding["ok"] == true);
        (is_well, told.collect())
    }

    /// A program of the server's installation, to run as the account that the server runs as. It ends with the test.
    pub(super) async fn as_server(&self, program: &str) -> Command {
        let ServiceState::Running(pid) = self.stack.postgres().unwrap().state().await else {
            panic!("PostgreSQL does not run");
        };
        let server = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        let program = server.with_file_name(program);
        as_owner(&program, &fs::metadata(format!("/proc/{pid}")).unwrap())
    }
}

/// A program, to run as the owner of something. It ends with the test.
pub(super) fn as_owner(program: &Path, owner: &fs::Metadata) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if nix::unistd::geteuid().is_root() {
        command.args([
            format!("--reuid={}", owner.uid()),
            format!("--regid={}", owner.gid()),
            "--clear-groups".into(),
        ]);
    }
    command
        .arg(program)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// A folder for a program that runs as the owner of something.
pub(super) fn folder_of(owner: &fs::Metadata) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// A program that runs beside the test, and ends with it.
pub(super) struct Beside(pub(super) Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _already_ended = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        let _already_waited_for = self.0.wait();
    }
}

/// A port that nobody listens on.
pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
