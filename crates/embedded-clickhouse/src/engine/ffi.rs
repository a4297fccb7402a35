//! The binding to libchdb's C interface: the only unsafe code of the project.
//!
//! A connection and an insert stream are used by one thread at a time and closed exactly once, by `Drop`.
#![allow(
    unsafe_code,
    reason = "calls into a C library cannot be checked by the compiler"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::Arc;

use libloading::Symbol;

use super::outcome::{EngineError, Outcome};

type RawConnection = *mut c_void;
type RawResult = *mut c_void;
type RawStream = *mut c_void;

type ConnectFn = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut RawConnection;
type CloseFn = unsafe extern "C" fn(*mut RawConnection);
type WithParametersFn<T> = unsafe extern "C" fn(
    RawConnection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> T;
type AppendFn = unsafe extern "C" fn(RawStream, *const c_char, usize) -> c_int;

/// Why the engine could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The library.
    #[error(
        "libchdb could not be loaded: {0}; `./dev up` installs it, --library or LIBCHDB_PATH name another"
    )]
    Library(#[from] libloading::Error),
    /// The data folder.
    #[error("the data folder could not be opened: another process may be using it, or it is not writable")]
    Folder,
    /// An argument.
    #[error("a path holds a NUL character")]
    Argument,
}

/// The functions used, resolved once.
pub(super) struct Library {
    connect: ConnectFn,
    close: CloseFn,
    query: WithParametersFn<RawResult>,
    insert: WithParametersFn<RawStream>,
    append: AppendFn,
    done: unsafe extern "C" fn(RawStream) -> RawResult,
    cancel: unsafe extern "C" fn(RawStream),
    destroy_stream: unsafe extern "C" fn(RawStream),
    stream_error: unsafe extern "C" fn(RawStream) -> *const c_char,
    buffer: unsafe extern "C" fn(RawResult) -> *const c_char,
    length: unsafe extern "C" fn(RawResult) -> usize,
    error: unsafe extern "C" fn(RawResult) -> *const c_char,
    rows_read: unsafe extern "C" fn(RawResult) -> u64,
    rows_written: unsafe extern "C" fn(RawResult) -> u64,
    bytes_read: unsafe extern "C" fn(RawResult) -> u64,
    bytes_written: unsafe extern "C" fn(RawResult) -> u64,
    destroy_result: unsafe extern "C" fn(RawResult),
    /// Keeps the code mapped for as long as the pointers above live.
    _code: libloading::Library,
}

unsafe extern "C" {
    /// Ends the process without running what is registered to run at its end.
    pub(super) safe fn _exit(status: c_int) -> !;
}

impl Library {
    pub(super) fn load(path: &Path) -> Result<Self, LoadError> {
        // SAFETY: the library's initialisers are those of ClickHouse's own build; each symbol is given the type that the
        // library's header declares for it; the pointers stay valid because the library is kept beside them.
        unsafe {
            let library = libloading::Library::new(path)?;
            let handlers: Symbol<'_, unsafe extern "C" fn(c_int)> =
                library.get(b"chdb_set_signal_handlers_enabled\0")?;
            handlers(0);
            Ok(Self {
                connect: *library.get(b"chdb_connect\0")?,
                close: *library.get(b"chdb_close_conn\0")?,
                query: *library.get(b"chdb_query_with_params_n\0")?,
                insert: *library.get(b"chdb_stream_insert_with_params_n\0")?,
                append: *library.get(b"chdb_stream_append\0")?,
                done: *library.get(b"chdb_stream_done\0")?,
                cancel: *library.get(b"chdb_stream_cancel_insert\0")?,
                destroy_stream: *library.get(b"chdb_destroy_insert_stream\0")?,
                stream_error: *library.get(b"chdb_stream_insert_error\0")?,
                buffer: *library.get(b"chdb_result_buffer\0")?,
                length: *library.get(b"chdb_result_length\0")?,
                error: *library.get(b"chdb_result_error\0")?,
                rows_read: *library.get(b"chdb_result_rows_read\0")?,
                rows_written: *library.get(b"chdb_result_rows_written\0")?,
                bytes_read: *library.get(b"chdb_result_bytes_read\0")?,
                bytes_written: *library.get(b"chdb_result_bytes_written\0")?,
                destroy_result: *library.get(b"chdb_destroy_query_result\0")?,
                _code: library,
            })
        }
    }

    /// Takes a result over and frees it.
    fn outcome(&self, result: RawResult) -> Result<Outcome, EngineError> {
        if result.is_null() {
            return Err(EngineError(
                "Code: 1002. DB::Exception: the engine returned nothing".into(),
            ));
        }
        // SAFETY: `result` is a live result of this library; its buffer holds `length` bytes until it is destroyed, and
        // it is destroyed once, after everything has been copied out.
        unsafe {
            let error = text((self.error)(result));
            let outcome = if let Some(error) = error {
                Err(EngineError(error))
            } else {
                let (buffer, length) = ((self.buffer)(result), (self.length)(result));
                let body = if buffer.is_null() || length == 0 {
                    Vec::new()
                } else {
                    std::slice::from_raw_parts(buffer.cast::<u8>(), length).to_vec()
                };
                Ok(Outcome {
                    body,
                    rows_read: (self.rows_read)(result),
                    rows_written: (self.rows_written)(result),
                    bytes_read: (self.bytes_read)(result),
                    bytes_written: (self.bytes_written)(result),
                })
            };
            (self.destroy_result)(result);
            outcome
        }
    }
}

/// Copies a C string; `None` when there is none.
///
/// # Safety
/// `pointer` is null or a NUL-terminated string that lives during the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let text = unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}

/// Names and values of parameters as the C interface takes them.
struct Parameters {
    names: Vec<*const c_char>,
    name_lengths: Vec<usize>,
    values: Vec<*const c_char>,
    value_lengths: Vec<usize>,
}

impl Parameters {
    /// Points into `parameters`, which must outlive it.
    fn of(parameters: &[(String, String)]) -> Self {
        Self {
            names: parameters.iter().map(|(name, _)| name.as_ptr().cast()).collect(),
            name_lengths: parameters.iter().map(|(name, _)| name.len()).collect(),
            values: parameters
                .iter()
                .map(|(_, value)| value.as_ptr().cast())
                .collect(),
            value_lengths: parameters.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

/// A connection: its own settings, its own current database, one statement at a time.
pub(super) struct Connection {
    library: Arc<Library>,
    handle: *mut RawConnection,
}

// SAFETY: the library allows a connection to be used from any thread, one at a time. `&self` methods are only reached
// through an owner that is not shared: a request owns its connection, and the engine's anchor is never called.
unsafe impl Send for Connection {}
// SAFETY: as above; the shared anchor has no method called on it.
unsafe impl Sync for Connection {}

impl Connection {
    pub(super) fn open(library: Arc<Library>, arguments: &[String]) -> Result<Self, LoadError> {
        let arguments: Vec<CString> = arguments
            .iter()
            .map(|argument| CString::new(argument.as_str()))
            .collect::<Result<_, _>>()
            .map_err(|_| LoadError::Argument)?;
        let mut pointers: Vec<*mut c_char> = arguments.iter().map(|a| a.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|_| LoadError::Argument)?;
        // SAFETY: the arguments are NUL-terminated and live during the call, which copies them.
        let handle = unsafe { (library.connect)(count, pointers.as_mut_ptr()) };
        // SAFETY: a returned handle points to a connection until it is closed.
        if handle.is_null() || unsafe { (*handle).is_null() } {
            return Err(LoadError::Folder);
        }
        Ok(Self { library, handle })
    }

    pub(super) fn query(
        &self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Outcome, EngineError> {
        let p = Parameters::of(parameters);
        // SAFETY: the connection is open; text and parameters are given with their lengths and live during the call.
        let result = unsafe {
            (self.library.query)(
                *self.handle,
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                p.names.as_ptr(),
                p.name_lengths.as_ptr(),
                p.values.as_ptr(),
                p.value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        self.library.outcome(result)
    }

    pub(super) fn insert(
        &self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<InsertStream<'_>, EngineError> {
        let p = Parameters::of(parameters);
        // SAFETY: as for a query.
        let handle = unsafe {
            (self.library.insert)(
                *self.handle,
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                p.names.as_ptr(),
                p.name_lengths.as_ptr(),
                p.values.as_ptr(),
                p.value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        if handle.is_null() {
            return Err(EngineError(
                "Code: 1002. DB::Exception: the engine opened no insert".into(),
            ));
        }
        let stream = InsertStream {
            connection: self,
            handle,
            finished: false,
        };
        match stream.error() {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: opened by this library, closed once.
        unsafe { (self.library.close)(self.handle) }
    }
}

/// An insert that is being fed. Dropped without [`InsertStream::done`] it stores nothing.
pub(super) struct InsertStream<'a> {
    connection: &'a Connection,
    handle: RawStream,
    finished: bool,
}

impl InsertStream<'_> {
    fn library(&self) -> &Library {
        &self.connection.library
    }

    fn error(&self) -> Option<EngineError> {
        // SAFETY: the stream is live; the text belongs to it.
        unsafe { text((self.library().stream_error)(self.handle)) }.map(EngineError)
    }

    pub(super) fn append(&self, data: &[u8]) -> Result<(), EngineError> {
        // SAFETY: the stream is live; the data is copied during the call.
        let status = unsafe { (self.library().append)(self.handle, data.as_ptr().cast(), data.len()) };
        if status == 0 {
            return Ok(());
        }
        // A failed parse shows here or at the end; the end has the full text.
        Err(self
            .error()
            .unwrap_or_else(|| EngineError("Code: 1002. DB::Exception: insert failed".into())))
    }

    pub(super) fn done(mut self) -> Result<Outcome, EngineError> {
        self.finished = true;
        // SAFETY: the stream is live and ended once; the result is taken over.
        let result = unsafe { (self.library().done)(self.handle) };
        self.library().outcome(result)
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: cancelled at most once, and only when it was not ended; destroyed once.
        unsafe {
            if !self.finished {
                (self.library().cancel)(self.handle);
            }
            (self.library().destroy_stream)(self.handle);
        }
    }
}
