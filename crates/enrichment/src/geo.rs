//! Where an IP address is, from a MaxMind-layout database held in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use maxminddb::{PathElement, Reader};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use crate::geo_source::GeoSettings;

/// Where an address is. Empty where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place<'a> {
    /// ISO 3166 code.
    pub country: &'a str,
    /// Largest subdivision, in English.
    pub region: &'a str,
    /// City, in English.
    pub city: &'a str,
}

/// The file is no usable database.
#[derive(Debug, thiserror::Error)]
#[error("{path} is no usable GeoIP database: {reason}")]
pub struct InvalidDatabase {
    path: String,
    reason: String,
}

/// An open database.
pub struct GeoDatabase {
    reader: Reader<Vec<u8>>,
}

impl GeoDatabase {
    /// Reads a `.mmdb` file whole and checks that records can be looked up.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Self, InvalidDatabase> {
        let invalid = |reason: String| InvalidDatabase {
            path: path.display().to_string(),
            reason,
        };
        let reader = Reader::open_readfile(path).map_err(|error| invalid(error.to_string()))?;
        let database = Self { reader };
        // A cut-off file still has a readable end; a look-up in the middle of the tree shows it.
        let probe = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
        database
            .reader
            .lookup(probe)
            .and_then(|found| found.decode_path::<&str>(&[]).map(drop).or(Ok(())))
            .map_err(|error| invalid(error.to_string()))?;
        Ok(database)
    }

    /// The place of an address; empty for anything that is no public address or is not in the database.
    pub fn lookup(&self, ip: &str) -> Place<'_> {
        let Some(address) = public_address(ip) else {
            return Place::default();
        };
        let Ok(found) = self.reader.lookup(address) else {
            return Place::default();
        };
        let text =
            |path: &[PathElement<'_>]| found.decode_path::<&str>(path).ok().flatten().unwrap_or_default();
        let key = PathElement::Key;
        let country = match text(&[key("country"), key("iso_code")]) {
            "" => text(&[key("country_code")]),
            code => code,
        };
        Place {
            country,
            region: text(&[
                key("subdivisions"),
                PathElement::Index(0),
                key("names"),
                key("en"),
            ]),
            city: text(&[key("city"), key("names"), key("en")]),
        }
    }
}

/// An address that a database can know: IPv4-mapped ones as IPv4; none that is loopback, private or of special use.
fn public_address(ip: &str) -> Option<IpAddr> {
    let address = ip.trim().parse::<IpAddr>().ok()?.to_canonical();
    let special = match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
        }
    };
    (!special).then_some(address)
}

/// The current database, shared and replaceable while it is used. Cloning shares it.
#[derive(Clone, Default)]
pub struct GeoIp {
    current: Arc<ArcSwapOption<GeoDatabase>>,
}

impl GeoIp {
    /// Knows no place.
    pub fn disabled() -> Self {
        Self::default()
    }

    /// Knows no place until its task has loaded or downloaded a database; never holds up or fails a start.
    pub fn start(settings: GeoSettings, stop: CancellationToken) -> (Self, JoinHandle<()>) {
        let geo = Self::default();
        let task = tokio::spawn(settings.keep_current(geo.clone(), stop));
        (geo, task)
    }

    /// Puts a database in the place of the one in use.
    pub fn replace(&self, database: GeoDatabase) {
        self.current.store(Some(Arc::new(database)));
    }

    /// Whether there is a database.
    pub fn is_ready(&self) -> bool {
        self.current.load().is_some()
    }

    /// Calls `use_place` with the place of an address.
    pub fn with_place<R>(&self, ip: &str, use_place: impl FnOnce(Place<'_>) -> R) -> R {
        match &*self.current.load() {
            Some(database) if !ip.is_empty() => use_place(database.lookup(ip)),
            _ => use_place(Place::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_special_use_are_nowhere() {
        for ip in [
            "",
            "x",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "fd00::1",
            "fe80::1",
            "100.64.0.1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "::ffff:10.0.0.1",
            "1.2.3.4:80",
            "fe80::1%eth0",
        ] {
            assert_eq!(public_address(ip), None, "{ip}");
        }
    }

    #[test]
    fn mapped_addresses_are_looked_up_as_what_they_map() {
        assert_eq!(public_address("::ffff:81.2.69.142"), "81.2.69.142".parse().ok());
        assert_eq!(public_address("2001:218::1"), "2001:218::1".parse().ok());
    }
}
