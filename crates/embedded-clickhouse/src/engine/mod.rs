//! The engine: statements in, bytes out. Each request has a connection of its own, so that nothing one sets is seen by
//! another.

mod ffi;
mod outcome;

use std::path::Path;
use std::sync::Arc;

pub use ffi::LoadError;
use ffi::{Connection, Library};
pub use outcome::{EngineError, Outcome};

/// Pieces in which an insert's data is handed to the engine.
const PIECE: usize = 1024 * 1024;

/// What a statement runs with, for itself alone.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Current database.
    pub database: Option<String>,
    /// Settings, as text.
    pub settings: Vec<(String, String)>,
    /// Query parameters, in the server's escaped text form.
    pub parameters: Vec<(String, String)>,
}

/// The engine over one data folder. Cloning shares it.
#[derive(Clone)]
pub struct Engine {
    library: Arc<Library>,
    arguments: Arc<[String]>,
    /// Keeps the engine up between requests.
    _anchor: Arc<Connection>,
}

impl Engine {
    /// Loads the library and opens the folder.
    ///
    /// # Errors
    /// When the library cannot be loaded or the folder cannot be opened, e.g. because another process uses it.
    pub fn open(
        library: &Path,
        data: &Path,
        config: Option<&Path>,
        max_memory: u64,
    ) -> Result<Self, LoadError> {
        let library = Arc::new(Library::load(library)?);
        let mut arguments = vec![
            "clickhouse".to_owned(),
            format!("--path={}", data.display()),
            format!("--max_server_memory_usage={max_memory}"),
        ];
        arguments.extend(config.map(|config| format!("--config-file={}", config.display())));
        let arguments: Arc<[String]> = arguments.into();
        let anchor = Connection::open(library.clone(), &arguments)?;
        Ok(Self {
            library,
            arguments,
            _anchor: Arc::new(anchor),
        })
    }

    /// Runs a statement. Blocks the calling thread.
    ///
    /// # Errors
    /// The engine's own.
    pub fn query(&self, session: &Session, sql: &str, format: &str) -> Result<Outcome, EngineError> {
        self.connect(session)?.query(sql, format, &session.parameters)
    }

    /// Runs an insert whose rows follow as `data`. Returns when they are stored. Blocks the calling thread.
    ///
    /// # Errors
    /// The engine's own; nothing of the data is stored then, as long as it makes one insert block.
    pub fn insert(
        &self,
        session: &Session,
        sql: &str,
        format: &str,
        data: &[u8],
    ) -> Result<Outcome, EngineError> {
        let connection = self.connect(session)?;
        let stream = connection.insert(sql, format, &session.parameters)?;
        for piece in data.chunks(PIECE) {
            stream.append(piece)?;
        }
        stream.done()
    }

    fn connect(&self, session: &Session) -> Result<Connection, EngineError> {
        let connection = Connection::open(self.library.clone(), &self.arguments)
            .map_err(|error| EngineError(format!("Code: 210. DB::Exception: {error}. (NETWORK_ERROR)")))?;
        if let Some(database) = &session.database {
            connection.query(&format!("USE {}", identifier(database)), "Null", &[])?;
        }
        // The embedded engine's default differs from a server's.
        let mut set = String::from("SET async_insert = 0");
        for (name, value) in &session.settings {
            set += ", ";
            set += &identifier(name);
            set += " = ";
            set += &literal(value);
        }
        connection.query(&set, "Null", &[])?;
        Ok(connection)
    }
}

/// Ends the process at once. Everything acknowledged is on disk; closing an engine would wait for the background work of its
/// tables, and an ordinary exit takes the globals away from under its threads, which run even where a folder was refused.
pub fn end_process(status: u8) -> ! {
    ffi::_exit(status.into())
}

/// A name as SQL text.
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A string literal as SQL text.
fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}
