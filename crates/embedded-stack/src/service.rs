//! One service's life: started, known to be ready, stopped, killed, paused, resumed, started again on the same port
//! and data. Never reports ready what did not answer, never returns from stopping while a process is left.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::{Mutex, MutexGuard};

use crate::process::ProcessIdentity;
use crate::running::Running;
use crate::site::Site;
use crate::spawn::{Launch, Tie};
use crate::{Lifetime, PortChoice, ServiceKind, StackError, clickhouse, pid_file, ports, postgres, redis};

/// How long a service may take to come up; a database replays its log after a kill.
const READY_PATIENCE: Duration = Duration::from_mins(1);
/// How long it may take to end when asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to end when its owner goes.
const DROP_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// Another program may take a port between our look and the service's.
const PORT_ATTEMPTS: usize = 3;

/// Whether a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// It does, as this process; also when it is paused.
    Running(i32),
    /// It does not.
    Stopped,
}

/// How a service is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) durable: bool,
    pub(crate) lifetime: Lifetime,
    pub(crate) ports: PortChoice,
    /// The port on which Redis talks to the other nodes, where it is one of a cluster.
    pub(crate) bus: Option<u16>,
}

/// One service of a stack, on a port of its own.
#[derive(Debug)]
pub struct Service {
    kind: ServiceKind,
    site: Site,
    port: u16,
    plan: Plan,
    running: Mutex<Option<Running>>,
}

impl Service {
    /// Starts the service, or takes over the one that a detached stack left running.
    pub(crate) async fn open(kind: ServiceKind, site: &Site, plan: Plan) -> Result<Self, StackError> {
        match (Self::find(kind, site, plan), plan.lifetime) {
            (None, _) => Self::start_on_free_port(kind, site, plan).await,
            (Some(service), Lifetime::Detached) => {
                service
                    .wait_until_ready(&mut *service.running.lock().await)
                    .await?;
                Ok(service)
            }
            (Some(mut service), Lifetime::Owner) => {
                // It is not ours to end when `service` is dropped.
                let pid = service
                    .running
                    .get_mut()
                    .take()
                    .map_or(0, |running| running.pid());
                Err(StackError::AlreadyRunning { service: kind, pid })
            }
        }
    }

    /// The service that an earlier command left running; not asked whether it is well.
    pub(crate) fn find(kind: ServiceKind, site: &Site, plan: Plan) -> Option<Self> {
        let identity = pid_file::read(&site.pid_file(kind))?;
        let port = ports::read(&site.port_file(kind))?;
        let running = Mutex::new(Some(Running::found(kind, identity)));
        Some(Self {
            kind,
            site: site.clone(),
            port,
            plan,
            running,
        })
    }

    async fn start_on_free_port(kind: ServiceKind, site: &Site, plan: Plan) -> Result<Self, StackError> {
        let mut port = ports::choose(kind, plan.ports, &site.port_file(kind))?;
        let mut attempt = 1;
        loop {
            let service = Self {
                kind,
                site: site.clone(),
                port,
                plan,
                running: Mutex::new(None),
            };
            match service.start().await {
                Ok(()) => return Ok(service),
                Err(StackError::Ended { .. }) if attempt < PORT_ATTEMPTS && !ports::is_free(port) => {
                    attempt += 1;
                    port = ports::any_free()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Which service this is.
    pub fn kind(&self) -> ServiceKind {
        self.kind
    }

    /// The port on 127.0.0.1, the same for the service's whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL to connect to.
    pub fn url(&self) -> String {
        self.kind.url(self.port)
    }

    /// Whether it runs.
    pub async fn state(&self) -> ServiceState {
        let mut running = self.running.lock().await;
        alive(&mut running).map_or(ServiceState::Stopped, |process| {
            ServiceState::Running(process.pid())
        })
    }

    /// Whether it runs and was not paused.
    pub(crate) async fn is_moving(&self) -> bool {
        let mut running = self.running.lock().await;
        alive(&mut running).is_some_and(|process| !process.is_paused())
    }

    /// Starts it on its port and data, and waits until it answers.
    ///
    /// # Errors
    /// When it runs already, is not installed, or does not come up: then with the end of its log.
    pub async fn start(&self) -> Result<(), StackError> {
        let mut running = self.running.lock().await;
        if let Some(process) = alive(&mut running) {
            return Err(StackError::AlreadyRunning {
                service: self.kind,
                pid: process.pid(),
            });
        }
        *running = Some(self.spawn().await?);
        ports::write(&self.site.port_file(self.kind), self.port)?;
        let ready = self.wait_until_ready(&mut running).await;
        if ready.is_err() {
            self.end(running, None).await?;
        }
        ready
    }

    /// Asks it to end, as an operator would, and waits until it has. Does nothing when it does not run.
    ///
    /// # Errors
    /// When a process is left that cannot be ended.
    pub async fn stop(&self) -> Result<(), StackError> {
        self.end(self.running.lock().await, Some(stop_signal(self.kind)))
            .await
    }

    /// Ends it without warning, with every process it started. Does nothing when it does not run.
    ///
    /// # Errors
    /// When a process is left that cannot be ended.
    pub async fn kill(&self) -> Result<(), StackError> {
        self.end(self.running.lock().await, None).await
    }

    /// Makes it stand still, connections open and unanswered, until [`Self::resume`].
    ///
    /// # Errors
    /// When it does not run.
    pub async fn pause(&self) -> Result<(), StackError> {
        let mut running = self.running.lock().await;
        let process = alive(&mut running).ok_or(StackError::NotRunning(self.kind))?;
        process.pause().await
    }

    /// Lets a paused service go on.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn resume(&self) -> Result<(), StackError> {
        let mut running = self.running.lock().await;
        let process = alive(&mut running).ok_or(StackError::NotRunning(self.kind))?;
        process.resume()
    }

    /// Ends it by `gently` first where given, and forgets its process.
    async fn end(
        &self,
        mut running: MutexGuard<'_, Option<Running>>,
        gently: Option<Signal>,
    ) -> Result<(), StackError> {
        if let Some(process) = alive(&mut running) {
            match gently {
                Some(signal) => process.stop(signal, STOP_PATIENCE).await?,
                None => process.kill().await?,
            }
        }
        *running = None;
        pid_file::remove(&self.site.pid_file(self.kind));
        Ok(())
    }

    async fn spawn(&self) -> Result<Running, StackError> {
        let (kind, site, port, plan) = (self.kind, self.site.clone(), self.port, self.plan);
        let spawned = tokio::task::spawn_blocking(move || {
            let launch = launch(kind, &site, port, plan)?;
            let name = launch.name();
            let child = launch.start(tie(kind, plan.lifetime), &site.log(kind))?;
            let identity = ProcessIdentity::of(child.id() as i32)
                .ok_or_else(|| StackError::run(name, &site.log_tail(kind)))?;
            pid_file::write(&site.pid_file(kind), &identity)?;
            Ok(Running::started(kind, identity, child))
        });
        spawned
            .await
            .map_err(|error| StackError::run(kind.name(), &error))?
    }

    async fn wait_until_ready(&self, running: &mut Option<Running>) -> Result<(), StackError> {
        let began = Instant::now();
        let service = self.kind;
        loop {
            let process = running.as_mut().ok_or(StackError::NotRunning(service))?;
            if let Some(status) = process.ended() {
                return Err(StackError::Ended {
                    service,
                    status,
                    log: self.site.log_tail(service),
                });
            }
            match probe(service, &self.site, self.port, process.pid()).await {
                Ok(()) => return Ok(()),
                Err(reason) if began.elapsed() > READY_PATIENCE => {
                    let log = self.site.log_tail(service);
                    return Err(StackError::NotReady {
                        service,
                        waited: READY_PATIENCE,
                        reason,
                        log,
                    });
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.plan.lifetime == Lifetime::Owner
            && let Some(running) = self.running.get_mut()
        {
            running.end_now(orphan_signal(self.kind), DROP_PATIENCE);
            pid_file::remove(&self.site.pid_file(self.kind));
        }
    }
}

/// The process, if it is there and has not ended.
fn alive(running: &mut Option<Running>) -> Option<&mut Running> {
    let running = running.as_mut()?;
    running.ended().is_none().then_some(running)
}

fn launch(kind: ServiceKind, site: &Site, port: u16, plan: Plan) -> Result<Launch, StackError> {
    match kind {
        ServiceKind::Redis => redis::launch(site, port, plan.durable, plan.bus),
        ServiceKind::Postgres => postgres::launch(site, port, plan.durable),
        ServiceKind::ClickHouse => clickhouse::launch(site, port),
    }
}

async fn probe(kind: ServiceKind, site: &Site, port: u16, pid: i32) -> Result<(), String> {
    match kind {
        ServiceKind::Redis => redis::probe(port, pid).await,
        ServiceKind::Postgres => postgres::probe(site, port).await,
        ServiceKind::ClickHouse => clickhouse::probe(site, port).await,
    }
}

/// Ends a service in good order. PostgreSQL's SIGTERM would wait for its clients to leave.
fn stop_signal(kind: ServiceKind) -> Signal {
    match kind {
        ServiceKind::Redis | ServiceKind::ClickHouse => Signal::SIGTERM,
        ServiceKind::Postgres => Signal::SIGINT,
    }
}

/// Ends a service whose owner is gone, at once. Killing PostgreSQL outright would leave its shared memory behind.
fn orphan_signal(kind: ServiceKind) -> Signal {
    match kind {
        ServiceKind::Redis | ServiceKind::ClickHouse => Signal::SIGKILL,
        ServiceKind::Postgres => Signal::SIGQUIT,
    }
}

fn tie(kind: ServiceKind, lifetime: Lifetime) -> Tie {
    match lifetime {
        Lifetime::Owner => Tie::Signalled(orphan_signal(kind)),
        Lifetime::Detached => Tie::Loose,
    }
}
