//! Datagrams to a receiver that may be slow or absent: sending never waits.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio::net::lookup_host;
use url::Url;

/// Longest that a name is looked up.
const LOOK_UP: Duration = Duration::from_secs(2);

/// A socket that is opened when it is used, and again after a failure.
pub(super) struct Socket {
    address: Url,
    open: Option<Open>,
}

enum Open {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    /// Opens nothing yet: `udp://host:port`, or `unix:///path`.
    pub(super) fn to(address: &Url) -> Self {
        Self {
            address: address.clone(),
            open: None,
        }
    }

    /// Sends a datagram, or loses it: at once, but for looking a name up.
    ///
    /// # Errors
    /// When it was not sent.
    pub(super) async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let open = match &self.open {
            Some(open) => open,
            None => self.open.insert(open(&self.address).await?),
        };
        let sent = match open {
            Open::Udp(socket) => socket.send(datagram),
            Open::Unix(socket) => socket.send(datagram),
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
                error.kind(),
                "the receiver takes nothing: its queue is full",
            )),
            Err(error) => {
                self.open = None;
                Err(error)
            }
        }
    }
}

async fn open(address: &Url) -> io::Result<Open> {
    if address.scheme() == "unix" {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(address.path())?;
        return Ok(Open::Unix(socket));
    }
    let host = address.host_str().unwrap_or("localhost").trim_matches(['[', ']']);
    let port = address.port().unwrap_or(8125);
    let found = tokio::time::timeout(LOOK_UP, lookup_host((host, port))).await??;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for to in found {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        match socket.connect(to) {
            Ok(()) => return Ok(Open::Udp(socket)),
            Err(error) => last = error,
        }
    }
    Err(last)
}
