//! Datagrams to a receiver that may be slow or absent: sending never waits.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use url::Url;

/// Longest that a name is looked up.
const LOOK_UP: Duration = Duration::from_secs(2);

/// A socket is opened anew after so long.
const KEPT: Duration = Duration::from_mins(5);

/// A socket that is opened when it is used, and again after a failure.
pub(super) struct Socket {
    address: Url,
    open: Option<(Open, Instant)>,
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

    /// Opens it, if it is not open, or has been for so long that its name may stand for another address by now.
    ///
    /// # Errors
    /// When there is nobody to send to.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        if self
            .open
            .as_ref()
            .is_none_or(|(_, since)| since.elapsed() >= KEPT)
        {
            self.open = None;
            self.open = Some((open(&self.address).await?, Instant::now()));
        }
        Ok(())
    }

    /// Sends a datagram at once, or loses it.
    ///
    /// # Errors
    /// When it was not sent.
    pub(super) fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let sent = match &self.open {
            Some((Open::Udp(socket), _)) => socket.send(datagram),
            Some((Open::Unix(socket), _)) => socket.send(datagram),
            None => return Err(io::ErrorKind::NotConnected.into()),
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
                error.kind(),
                "the receiver takes nothing: its queue is full",
            )),
            Err(error) => {
                // By UDP that is about a datagram before this one, and says nothing of the next.
                let is_late = matches!(self.open, Some((Open::Udp(_), _)));
                if !(is_late && error.kind() == io::ErrorKind::ConnectionRefused) {
                    self.open = None;
                }
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
