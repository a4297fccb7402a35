//! Finds the place of an IP address in a database of MaxMind's layout, held in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use maxminddb::{PathElement, Reader};

/// The place of an address. Each field is empty where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place<'a> {
    /// ISO 3166 code of the country.
    pub country: &'a str,
    /// English name of the largest subdivision.
    pub region: &'a str,
    /// English name of the city.
    pub city: &'a str,
}

/// A file that is no usable database.
#[derive(Debug, thiserror::Error)]
#[error("{path} is no usable GeoIP database: {reason}")]
pub struct InvalidDatabase {
    path: String,
    reason: String,
}

/// A database in memory.
pub struct GeoDatabase {
    reader: Reader<Vec<u8>>,
}

impl GeoDatabase {
    /// Reads a whole `.mmdb` file and checks that records can be looked up.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Self, InvalidDatabase> {
        let invalid = |reason: String| InvalidDatabase {
            path: path.display().to_string(),
            reason,
        };
        let reader = Reader::open_readfile(path).map_err(|error| invalid(error.to_string()))?;
        let database = Self { reader };
        // A truncated file may still open; a look-up in the middle of the tree shows the damage.
        let probe = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
        database
            .reader
            .lookup(probe)
            .and_then(|found| found.decode_path::<&str>(&[]).map(drop).or(Ok(())))
            .map_err(|error| invalid(error.to_string()))?;
        Ok(database)
    }

    /// The place of an address; empty for a text that is no public address, and for one that is not in the database.
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

/// Reads an address that a database can know. IPv4-mapped ones become IPv4; loopback, private and other special addresses
/// are left out.
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

/// The current database, which can be replaced while it is in use. Cloning shares it.
#[derive(Clone, Default)]
pub struct GeoIp {
    current: Arc<ArcSwapOption<GeoDatabase>>,
}

impl GeoIp {
    /// Without a database: finds no place.
    pub fn disabled() -> Self {
        Self::default()
    }

    /// Replaces the database in use.
    pub fn replace(&self, database: GeoDatabase) {
        self.current.store(Some(Arc::new(database)));
    }

    /// Whether there is a database.
    pub fn is_ready(&self) -> bool {
        self.current.load().is_some()
    }

    /// Calls `use_place` with the place of an address, which is empty without a database.
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
