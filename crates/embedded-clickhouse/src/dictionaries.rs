//! Loading dictionaries again at the end of their lifetime. A server does so by itself; the embedded engine does not.

use std::time::Duration;

use crate::engine::{Engine, Session};

/// How often it is looked, as a server does.
const LOOK: Duration = Duration::from_secs(5);
const OLD: &str = "
    SELECT concat('`', replaceAll(database, '`', '\\\\`'), '`.`', replaceAll(name, '`', '\\\\`'), '`')
    FROM system.dictionaries
    WHERE database != '' AND status IN ('LOADED', 'LOADED_AND_RELOADING', 'FAILED') AND lifetime_max > 0
        AND loading_start_time + lifetime_max <= now()";

/// Keeps the dictionaries that are in use as young as they say, on a thread of its own, until the process ends.
///
/// # Errors
/// When no thread can be had.
pub fn keep_young(engine: Engine) -> std::io::Result<()> {
    let look = move || {
        loop {
            std::thread::sleep(LOOK);
            reload_old(&engine);
        }
    };
    std::thread::Builder::new()
        .name("dictionaries".into())
        .spawn(look)
        .map(drop)
}

/// One that cannot be loaded keeps what it has; whoever asks it is told why.
fn reload_old(engine: &Engine) {
    let session = Session::default();
    let Ok(old) = engine.query(&session, OLD, "TSVRaw") else {
        return;
    };
    for name in String::from_utf8_lossy(&old.body).lines() {
        let _kept = engine.query(&session, &format!("SYSTEM RELOAD DICTIONARY {name}"), "Null");
    }
}
