use super::*;

fn header(bytes: &[u8]) -> Result<Option<Header>, DecodeError> {
    Cursor::new(bytes, 0).header("test")
}

#[test]
fn headers_are_read_when_they_are_whole() {
    let cases: [(&[u8], Header); 8] = [
        (b"$0\r\n", Header::Bulk(0)),
        (b"$123\r\n", Header::Bulk(123)),
        (b"*2\r\n", Header::Array(2)),
        (b"%7\r\n", Header::Map(7)),
        (b"*-1\r\n", Header::Nil),
        (b"$-1\r\n", Header::Nil),
        (b"_\r\n", Header::Nil),
        (b"*999999999999999999\r\n", Header::Array(999_999_999_999_999_999)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(header(bytes), Ok(Some(expected)));
        for end in 0..bytes.len() {
            assert_eq!(header(&bytes[..end]), Ok(None), "{}", bytes[..end].escape_ascii());
        }
    }
}

#[test]
fn what_is_no_length_is_refused_as_soon_as_it_is_seen() {
    for bytes in [
        &b"$-2\r\n"[..],
        b"$-2",
        b"*-\r",
        b"$x",
        b"*1x",
        b"*\r\n",
        b"*1\n",
        b"*1\rx",
        b"*--1\r\n",
        b"*+1\r\n",
        b"*1000000000000000000",
        b"?",
        b"\r\n",
        b"_x\r\n",
    ] {
        assert!(header(bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_payload_must_end_where_its_length_says() {
    assert_eq!(
        Cursor::new(b"abc\r\n", 0).payload(3, "test"),
        Ok(Some(&b"abc"[..]))
    );
    for end in 0..5 {
        assert_eq!(Cursor::new(&b"abc\r\n"[..end], 0).payload(3, "test"), Ok(None));
    }
    let error = Cursor::new(b"abcd\r\n", 100).payload(3, "test").unwrap_err();
    assert_eq!((error.offset, error.found.as_str()), (103, r#""d\r\n""#));
}

#[test]
fn a_string_is_read_whole_or_nothing_is_consumed() {
    for (bytes, text) in [(&b"$3\r\nabc\r\n"[..], &b"abc"[..]), (b"$0\r\n\r\n", b"")] {
        let mut cursor = Cursor::new(bytes, 0);
        assert_eq!(
            (cursor.whole_string(), cursor.position),
            (Some(text), bytes.len())
        );
        for end in 0..bytes.len() {
            let mut cursor = Cursor::new(&bytes[..end], 0);
            assert_eq!((cursor.whole_string(), cursor.position), (None, 0), "{end}");
        }
    }
    for other in [
        &b"$-1\r\n"[..],
        b"$\r\n\r\n",
        b"*1\r\na\r\n",
        b"$1x\r\na\r\n",
        b"$1\r\nabc\r\n",
        b"$1\nab\r\n",
        b"$000000001\r\na\r\n",
        b"$99999999\r\na\r\n",
    ] {
        let mut cursor = Cursor::new(other, 0);
        assert_eq!(
            (cursor.whole_string(), cursor.position),
            (None, 0),
            "{}",
            other.escape_ascii()
        );
    }
}

#[test]
fn what_is_expected_is_skipped_whole_or_not_at_all() {
    let mut cursor = Cursor::new(b"$1\r\na\r\n$1", 0);
    assert!(!cursor.skip(b"$1\r\nb\r\n"));
    assert!(cursor.skip(b"$1\r\na\r\n"));
    assert!(!cursor.skip(b"$1\r\na\r\n"), "it has not arrived yet");
    assert_eq!(cursor.position, 7);
}

#[test]
fn a_line_without_an_end_is_refused_at_its_limit() {
    let mut bytes = vec![b'+'; LONGEST_LINE];
    assert_eq!(Cursor::new(&bytes, 0).line("test"), Ok(None));
    bytes.push(b'+');
    assert!(Cursor::new(&bytes, 0).line("test").is_err());
}
