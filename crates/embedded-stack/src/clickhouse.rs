//! ClickHouse: our `embedded-clickhouse`, how it is started and how it is known to be ready.

use std::path::PathBuf;

use crate::site::Site;
use crate::spawn::Launch;
use crate::{DATABASE, PASSWORD, ServiceKind, StackError, USER, http, locate};

/// The engine flushes by its own rules; it knows no difference between durable and not.
pub(crate) fn launch(site: &Site, port: u16) -> Result<Launch, StackError> {
    let folder = site.data(ServiceKind::ClickHouse);
    std::fs::create_dir_all(&folder).map_err(StackError::path("create", &folder))?;
    let announcement = site.announcement(ServiceKind::ClickHouse);
    let _absent = std::fs::remove_file(&announcement);
    let mut launch = Launch::new(locate::embedded_clickhouse()?, &folder);
    let config = config(site);
    if config.is_file() {
        launch = launch.arg("--config").arg(config);
    }
    Ok(launch
        .arg("--library")
        .arg(locate::libchdb()?)
        .arg("--data")
        .arg(&folder)
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .args(["--user", USER, "--password", PASSWORD])
        .arg("--port-file")
        .arg(announcement))
}

/// Where its own configuration is, if it has one.
fn config(site: &Site) -> PathBuf {
    site.root().join("clickhouse.xml")
}

/// Gives it a configuration of its own, for the next time that it is started.
pub(crate) fn configure(site: &Site, xml: &str) -> Result<(), StackError> {
    let path = config(site);
    std::fs::write(&path, xml).map_err(StackError::path("write", &path))
}

/// Fine when the process that was started says that it listens, and the database is there.
pub(crate) async fn probe(site: &Site, port: u16) -> Result<(), String> {
    if !site.announcement(ServiceKind::ClickHouse).is_file() {
        return Err("it has not announced its port yet".into());
    }
    http::post(
        port,
        USER,
        PASSWORD,
        &format!("CREATE DATABASE IF NOT EXISTS {DATABASE}"),
    )
    .await
    .map(drop)
}
