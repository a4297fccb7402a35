//! `status --watch` on a terminal: one screen that says whether it keeps up, and if not, what it waits for.
//!
//! Every store is asked in a loop of its own, for no longer than its limit, and the screen is drawn whatever they do: one
//! that stands still makes its own values old and nothing else.

mod keys;
mod layout;
pub(super) mod model;
mod overview;
mod screen;
mod shown;
#[cfg(test)]
mod tests;
mod views;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::model::{Model, Told, Wish};
use self::screen::Screen;
use super::facts::{ClickHouseFacts, Look, PostgresFacts};
use super::read::Stores;
use super::tables::Settings;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::stores::Store;
use crate::warehouse::newest::Newest;

/// Pause between two looks at Redis, which has what changes fast…
const OFTEN: Duration = Duration::from_secs(1);
/// …and at the other stores.
const SELDOM: Duration = Duration::from_secs(2);
/// Ages on the screen go on without any news.
const TICK: Duration = Duration::from_millis(500);

/// Shows the screen until somebody leaves it, or a signal ends it.
pub(super) async fn run(stores: &Stores, settings: Settings) -> Result<(), Failure> {
    let (tell, told) = mpsc::unbounded_channel();
    tokio::select! {
        shown = show(stores, settings, told) => shown,
        () = ask(stores, &tell) => Ok(()),
    }
}

/// Asks for as long as somebody looks.
async fn ask(stores: &Stores, tell: &mpsc::UnboundedSender<Told>) {
    let redis = async {
        while tell.send(Told::Redis(stores.look_at_redis().await)).is_ok() {
            tokio::time::sleep(OFTEN).await;
        }
    };
    let postgres = async {
        while tell.send(Told::Postgres(stores.look_at_postgres().await)).is_ok() {
            tokio::time::sleep(SELDOM).await;
        }
    };
    let clickhouse = async {
        let mut newest = Newest::default();
        while tell
            .send(Told::ClickHouse(stores.look_at_clickhouse(&mut newest).await))
            .is_ok()
        {
            tokio::time::sleep(SELDOM).await;
        }
    };
    tokio::join!(redis, postgres, clickhouse);
}

async fn show(
    stores: &Stores,
    settings: Settings,
    mut told: mpsc::UnboundedReceiver<Told>,
) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(anyhow::Error::from)?;
    let mut screen = Screen::take().map_err(anyhow::Error::from)?;
    let mut wishes = screen::wishes().map_err(anyhow::Error::from)?;
    let mut model = Model::new(
        stores.nothing_of_redis(),
        Look::new(Store::Postgres, stores.places(), PostgresFacts::default()),
        Look::new(Store::ClickHouse, stores.places(), ClickHouseFacts::default()),
        settings,
    );
    let began = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        let drawn = screen.draw(|frame| layout::draw(frame, &mut model, Timestamp::now()));
        if drawn.is_err() || !output::is_open() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = signals.any() => return Ok(()),
            wish = wishes.recv() => match wish {
                None | Some(Wish::Leave) => return Ok(()),
                Some(Wish::Redraw) => {
                    // What cannot be written is noticed above.
                    let _forgotten = screen.forget();
                }
                Some(wish) => model.wish(wish),
            },
            news = told.recv() => match news {
                None => return Ok(()),
                Some(news) => model.take(news, began.elapsed()),
            },
            _ = ticks.tick() => {}
        }
    }
}

/// What ends the command from outside, and must not leave the terminal as it is then.
struct Signals([Signal; 4]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        ]))
    }

    async fn any(&mut self) {
        let [terminate, interrupt, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}
