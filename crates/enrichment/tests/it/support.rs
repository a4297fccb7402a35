//! Writes databases in MaxMind's format. Source: MaxMind DB File Format Specification 2.0.

use std::net::IpAddr;
use std::path::Path;

/// A value of the data section.
#[derive(Clone)]
pub(crate) enum Value {
    Text(&'static str),
    Small(u16),
    Large(u32),
    Long(u64),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                control(2, text.len(), out);
                out.extend(text.as_bytes());
            }
            Self::Small(value) => number(5, &value.to_be_bytes(), out),
            Self::Large(value) => number(6, &value.to_be_bytes(), out),
            Self::Long(value) => number(9, &value.to_be_bytes(), out),
            Self::List(values) => {
                control(11, values.len(), out);
                for value in values {
                    value.write(out);
                }
            }
            Self::Map(pairs) => {
                control(7, pairs.len(), out);
                for (key, value) in pairs {
                    Self::Text(key).write(out);
                    value.write(out);
                }
            }
        }
    }
}

fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (size, more) = if size < 29 {
        (size as u8, None)
    } else {
        (29, Some((size - 29) as u8))
    };
    if kind > 7 {
        out.extend([size, kind - 7]);
    } else {
        out.push(kind << 5 | size);
    }
    out.extend(more);
}

fn number(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    control(kind, bytes.len(), out);
    out.extend(bytes);
}

/// A database of networks, written as `address/length`, IPv4 among IPv6 as the format has it.
pub(crate) fn database(kind: &'static str, networks: &[(&str, Value)]) -> Vec<u8> {
    #[derive(Clone, Copy)]
    enum Record {
        Nothing,
        Node(usize),
        Data(usize),
    }
    let mut nodes = vec![[Record::Nothing; 2]];
    let mut data = Vec::new();
    for (network, value) in networks {
        let (address, length) = network.split_once('/').unwrap();
        let length: u32 = length.parse().unwrap();
        let (bits, length) = match address.parse().unwrap() {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), length + 96),
            IpAddr::V6(v6) => (u128::from(v6), length),
        };
        let offset = data.len();
        value.write(&mut data);
        let mut node = 0;
        for depth in 0..length {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == length {
                nodes[node][side] = Record::Data(offset);
            } else if let Record::Node(next) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([Record::Nothing; 2]);
                let next = nodes.len() - 1;
                nodes[node][side] = Record::Node(next);
                node = next;
            }
        }
    }
    let count = nodes.len();
    let mut out = Vec::new();
    for record in nodes.iter().flatten() {
        let value = match record {
            Record::Nothing => count,
            Record::Node(node) => *node,
            Record::Data(offset) => count + 16 + offset,
        };
        out.extend(&(value as u32).to_be_bytes()[1..]);
    }
    out.extend([0; 16]);
    out.extend(data);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    Value::Map(vec![
        ("binary_format_major_version", Value::Small(2)),
        ("binary_format_minor_version", Value::Small(0)),
        ("build_epoch", Value::Long(1_760_000_000)),
        ("database_type", Value::Text(kind)),
        ("description", Value::Map(vec![("en", Value::Text("for tests"))])),
        ("ip_version", Value::Small(6)),
        ("languages", Value::List(vec![Value::Text("en")])),
        ("node_count", Value::Large(count as u32)),
        ("record_size", Value::Small(24)),
    ])
    .write(&mut out);
    out
}

fn names(name: &'static str) -> Value {
    Value::Map(vec![(
        "names",
        Value::Map(vec![("de", Value::Text("falsch")), ("en", Value::Text(name))]),
    )])
}

/// In MaxMind's City layout.
pub(crate) fn city(country: &'static str, region: &'static str, city: &'static str) -> Value {
    Value::Map(vec![
        ("city", names(city)),
        ("country", Value::Map(vec![("iso_code", Value::Text(country))])),
        ("subdivisions", Value::List(vec![names(region), names("smaller")])),
    ])
}

/// In MaxMind's Country layout.
pub(crate) fn country(code: &'static str) -> Value {
    Value::Map(vec![(
        "country",
        Value::Map(vec![("iso_code", Value::Text(code))]),
    )])
}

/// In the layout of databases that know nothing but countries.
pub(crate) fn flat(code: &'static str) -> Value {
    Value::Map(vec![("country_code", Value::Text(code))])
}

/// A database in which 81.2.69.142 is in the given country.
pub(crate) fn with_country(code: &'static str) -> Vec<u8> {
    database(
        "GeoLite2-Country",
        &[("81.2.69.0/24", country(code)), ("8.8.8.0/24", country("US"))],
    )
}

/// Puts a file in place at once, as a careful operator does.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(&beside, path).unwrap();
}
