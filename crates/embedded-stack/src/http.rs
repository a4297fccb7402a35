//! Just enough HTTP to ask the embedded ClickHouse one question over loopback. Not a general client: it trusts the
//! server to close the connection, which HTTP/1.0 makes it do.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(5);

/// Posts `sql`; the error is the server's text, or the system's.
pub(crate) async fn post(port: u16, user: &str, password: &str, sql: &str) -> Result<String, String> {
    let request = format!(
        "POST / HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nX-ClickHouse-User: {user}\r\n\
         X-ClickHouse-Key: {password}\r\nContent-Length: {}\r\n\r\n{sql}",
        sql.len()
    );
    let answer = tokio::time::timeout(PATIENCE, exchange(port, request.as_bytes())).await;
    let answer = answer
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!(
            "{} {}",
            head.lines().next().unwrap_or("no status line"),
            body.trim()
        )),
    }
}

async fn exchange(port: u16, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
