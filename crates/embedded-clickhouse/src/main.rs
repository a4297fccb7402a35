//! Starts the engine and serves until SIGTERM or SIGINT.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use embedded_clickhouse::dictionaries;
use embedded_clickhouse::engine::{Engine, end_process};
use embedded_clickhouse::http::Service;
use embedded_clickhouse::options::Options;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Longest wait for running requests at the end.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "libchdb is available for x86-64 Linux only: set CLICKHOUSE_URL to use a ClickHouse server instead"
        );
    }
    if !options.allow_remote && !options.listen.ip().is_loopback() {
        bail!(
            "{} is not a loopback address: give --allow-remote if that is meant",
            options.listen
        );
    }
    std::fs::create_dir_all(&options.data)
        .with_context(|| format!("creating the data folder {}", options.data.display()))?;
    let served = open_and_serve(options);
    if let Err(error) = &served {
        writeln!(std::io::stderr(), "Error: {error:?}")?;
    }
    end_process(served.is_err().into())
}

fn open_and_serve(options: Options) -> anyhow::Result<()> {
    let engine = Engine::open(
        &options.library,
        &options.data,
        options.config.as_deref(),
        options.max_server_memory,
    )?;
    dictionaries::keep_young(engine.clone())?;
    let served = tokio::runtime::Runtime::new()?.block_on(serve(options, engine.clone()));
    // Never closed: see `end_process`.
    std::mem::forget(engine);
    served
}

async fn serve(options: Options, engine: Engine) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listening on {}", options.listen))?;
    let address = listener.local_addr()?;
    if let Some(file) = &options.port_file {
        std::fs::write(file, address.port().to_string())
            .with_context(|| format!("writing {}", file.display()))?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "listening on http://{address}")?;
    out.flush()?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stopped_in, stopped) = tokio::sync::oneshot::channel();
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let _serving_has_ended = stopped_in.send(());
    };
    let service = Service::new(
        engine,
        options.user,
        options.password,
        options.max_body_bytes,
        options.max_concurrent,
    );
    let server = axum::serve(listener, service.router()).with_graceful_shutdown(stop);
    let limit = async {
        if stopped.await.is_ok() {
            tokio::time::sleep(LAST_REQUESTS).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = server => ended.context("serving")?,
        () = limit => {}
    }
    Ok(())
}
