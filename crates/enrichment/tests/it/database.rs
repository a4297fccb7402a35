//! What a database answers.

use enrichment::geo::{GeoDatabase, Place};
use proptest::prelude::*;

use crate::support::{Value, city, country, database, flat, with_country};

fn open(bytes: &[u8]) -> Result<GeoDatabase, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mmdb");
    std::fs::write(&path, bytes).unwrap();
    GeoDatabase::open(&path).map_err(|error| error.to_string())
}

fn place<'a>(country: &'a str, region: &'a str, city: &'a str) -> Place<'a> {
    Place {
        country,
        region,
        city,
    }
}

#[test]
fn a_city_database_gives_country_region_and_city_in_english() {
    let networks = [
        ("81.2.69.0/24", city("GB", "England", "London")),
        ("2001:218::/32", city("JP", "", "")),
    ];
    let database = open(&database("GeoLite2-City", &networks)).unwrap();
    assert_eq!(database.lookup("81.2.69.142"), place("GB", "England", "London"));
    assert_eq!(
        database.lookup("::ffff:81.2.69.142"),
        place("GB", "England", "London")
    );
    assert_eq!(database.lookup("2001:218::1"), place("JP", "", ""));
    assert_eq!(database.lookup("9.9.9.9"), place("", "", ""));
}

#[test]
fn a_country_database_of_either_layout_gives_the_country_alone() {
    for value in [country("CH"), flat("CH")] {
        let database = open(&database("Country", &[("81.2.69.0/24", value)])).unwrap();
        assert_eq!(database.lookup("81.2.69.1"), place("CH", "", ""));
    }
}

#[test]
fn an_address_of_special_use_is_nowhere_even_if_the_database_knows_it() {
    let networks = [
        ("127.0.0.0/8", country("XX")),
        ("10.0.0.0/8", country("XX")),
        ("8.0.0.0/8", country("US")),
    ];
    let database = open(&database("Country", &networks)).unwrap();
    for ip in [
        "127.0.0.1",
        "10.1.1.1",
        "::ffff:127.0.0.1",
        "",
        "not an address",
        "8.8.8.8:53",
    ] {
        assert_eq!(database.lookup(ip), Place::default(), "{ip}");
    }
    assert_eq!(database.lookup(" 8.8.8.8 ").country, "US");
}

#[test]
fn a_record_of_an_unexpected_shape_is_nowhere() {
    let odd = [
        Value::Text("CH"),
        Value::List(vec![Value::Text("CH")]),
        Value::Map(vec![("country", Value::Text("CH"))]),
        Value::Map(vec![("country_code", Value::Small(41))]),
        Value::Map(vec![("subdivisions", Value::List(vec![]))]),
    ];
    for value in odd {
        let database = open(&database("Country", &[("81.2.69.0/24", value)])).unwrap();
        assert_eq!(database.lookup("81.2.69.1"), Place::default());
    }
}

#[test]
fn what_is_no_database_is_an_error_that_names_the_file() {
    for bytes in [&b""[..], b"<html>not found</html>", &with_country("GB")[..40]] {
        let error = open(bytes).err().unwrap();
        assert!(error.contains("x.mmdb"), "{error}");
    }
}

proptest! {
    /// Cut or damaged, it is refused or answers something; it never takes the process down.
    #[test]
    fn a_damaged_database_takes_nothing_down(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = with_country("GB");
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(database) = open(&bytes) {
            for ip in ["81.2.69.142", "8.8.8.8", "2001:218::1"] {
                let _any_place = database.lookup(ip);
            }
        }
    }
}
