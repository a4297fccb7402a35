//! Ports on loopback: a free one, the standard one, the one a service had before.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::{PortChoice, ServiceKind, StackError};

/// The port to start `kind` on: the remembered one if it is free, else by `choice`, else any.
pub(crate) fn choose(kind: ServiceKind, choice: PortChoice, remembered: &Path) -> Result<u16, StackError> {
    let standard = (choice == PortChoice::Standard).then(|| kind.standard_port());
    let wished = [read(remembered), standard];
    match wished.into_iter().flatten().find(|port| is_free(*port)) {
        Some(port) => Ok(port),
        None => any_free(),
    }
}

/// The remembered port.
pub(crate) fn read(file: &Path) -> Option<u16> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Remembers the port for later starts.
pub(crate) fn write(file: &Path, port: u16) -> Result<(), StackError> {
    fs::write(file, format!("{port}\n")).map_err(StackError::path("write", file))
}

/// Whether nobody listens on the port.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port that the system calls free.
pub(crate) fn any_free() -> Result<u16, StackError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(StackError::path("find a free port on", "127.0.0.1"))
}

/// Two ports that the system calls free.
pub(crate) fn two_free() -> Result<(u16, u16), StackError> {
    let find = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // Both are held until both are known, so that they are not the same.
    let both = find().and_then(|one| Ok((one, find()?)));
    both.and_then(|(one, other)| Ok((one.local_addr()?.port(), other.local_addr()?.port())))
        .map_err(StackError::path("find a free port on", "127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_not_chosen_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("redis.port");
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        write(&file, port).unwrap();
        assert_ne!(choose(ServiceKind::Redis, PortChoice::Free, &file).unwrap(), port);

        drop(taken);
        assert_eq!(choose(ServiceKind::Redis, PortChoice::Free, &file).unwrap(), port);
    }
}
