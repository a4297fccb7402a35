//! Replies that no server has thought of, in pieces of any size, whole and damaged.

use std::iter;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use stream_reply::{Limits, ReplyKind};

use crate::reading::{NAMES, first, ours, theirs};

const ROOMY: Limits = Limits {
    block_bytes: 64 << 10,
    entry_bytes: 1 << 20,
};

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn list(kind: char, length: usize, parts: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    iter::once(format!("{kind}{length}\r\n").into_bytes())
        .chain(parts)
        .collect::<Vec<_>>()
        .concat()
}

fn id() -> impl Strategy<Value = Vec<u8>> {
    (any::<u64>(), any::<u64>()).prop_map(|(ms, seq)| bulk(format!("{ms}-{seq}").as_bytes()))
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::sample::select(NAMES).prop_map(|name| name.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..80),
        1 => Just(b"event_nama".to_vec()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => ".{0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
        1 => Just(b"\r\n$3\r\n*2\r\n".to_vec()),
        1 => (0_usize..9000).prop_map(|length| vec![b'x'; length]),
    ]
}

fn entry() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        8 => vec((name(), value()), 0..7).prop_map(|fields| {
            let count = fields.len() * 2;
            list('*', count, fields.into_iter().flat_map(|(name, value)| [bulk(&name), bulk(&value)]))
        }),
        1 => prop::sample::select(vec![b"*-1\r\n".to_vec(), b"$-1\r\n".to_vec(), b"_\r\n".to_vec()]),
    ];
    (id(), body).prop_map(|(id, body)| list('*', 2, [id, body]))
}

fn entries() -> impl Strategy<Value = Vec<u8>> {
    vec(entry(), 0..6).prop_map(|entries| list('*', entries.len(), entries))
}

fn reply() -> impl Strategy<Value = (ReplyKind, Vec<u8>)> {
    let stream = ("[a-z:]{1,12}", entries()).prop_map(|(name, entries)| (bulk(name.as_bytes()), entries));
    let read = (vec(stream, 1..4), any::<bool>()).prop_map(|(streams, map)| {
        let count = streams.len();
        let bytes = if map {
            list(
                '%',
                count,
                streams.into_iter().flat_map(|(name, entries)| [name, entries]),
            )
        } else {
            list(
                '*',
                count,
                streams
                    .into_iter()
                    .map(|(name, entries)| list('*', 2, [name, entries])),
            )
        };
        (ReplyKind::Read, bytes)
    });
    let deleted = vec(id(), 0..4).prop_map(|ids| list('*', ids.len(), ids));
    let claimed = (id(), entries(), deleted, any::<bool>()).prop_map(|(cursor, entries, deleted, third)| {
        let parts = if third {
            vec![cursor, entries, deleted]
        } else {
            vec![cursor, entries]
        };
        (ReplyKind::AutoClaim, list('*', parts.len(), parts))
    });
    prop_oneof![
        4 => read,
        2 => claimed,
        1 => entries().prop_map(|entries| (ReplyKind::Claim, entries)),
        1 => prop::sample::select(vec!["*-1\r\n", "$-1\r\n", "_\r\n"]).prop_map(|nil| (ReplyKind::Read, nil.into())),
    ]
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn every_reply_reads_as_the_client_library_reads_it_however_it_is_cut(
        (kind, bytes) in reply(),
        cuts in vec(any::<Index>(), 0..40),
        block_bytes in prop_oneof![Just(1_usize), 1..5000_usize, Just(64 << 10)],
    ) {
        let limits = Limits { block_bytes, ..ROOMY };
        let reading = ours(kind, limits, pieces(&bytes, &cuts)).unwrap();
        prop_assert_eq!(reading, Some(theirs(kind, &bytes)));
    }

    #[test]
    fn byte_by_byte_is_the_same_as_at_once((kind, bytes) in reply()) {
        let at_once = ours(kind, ROOMY, [&bytes[..]]).unwrap();
        prop_assert_eq!(at_once, ours(kind, ROOMY, bytes.chunks(1)).unwrap());
    }

    #[test]
    fn an_entry_over_its_limit_is_told_by_its_size_and_its_neighbours_are_as_ever(
        (kind, bytes) in reply(),
        entry_bytes in 0_usize..3000,
        cuts in vec(any::<Index>(), 0..10),
    ) {
        let limits = Limits { entry_bytes, ..ROOMY };
        let reading = ours(kind, limits, pieces(&bytes, &cuts)).unwrap().unwrap();
        let expected = theirs(kind, &bytes);
        prop_assert_eq!(reading.entries.len(), expected.entries.len());
        for (read, expected) in reading.entries.iter().zip(&expected.entries) {
            prop_assert_eq!(&read.id, &expected.id);
            if read != expected {
                let told = read.fields.as_deref().and_then(|fields| fields[0].clone()).unwrap_or_default();
                prop_assert!(told.starts_with("oversized: "), "{:?} is not {:?}", read, expected);
            }
        }
    }

    #[test]
    fn a_reply_that_is_cut_off_is_never_over((kind, bytes) in reply(), cut in any::<Index>()) {
        let cut = cut.index(bytes.len());
        prop_assert_eq!(ours(kind, ROOMY, [&bytes[..cut]]).unwrap(), None);
    }

    /// Whatever comes, it answers: entries, a wish for more, or an error; never a panic, never an endless loop.
    #[test]
    fn damaged_bytes_are_survived(
        (kind, mut bytes) in reply(),
        damage in vec((any::<Index>(), any::<u8>()), 1..6),
        cuts in vec(any::<Index>(), 0..10),
    ) {
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _any_answer = first(kind, ROOMY, pieces(&bytes, &cuts));
    }

    #[test]
    fn any_bytes_are_survived(
        kind in prop::sample::select(vec![ReplyKind::Read, ReplyKind::AutoClaim, ReplyKind::Claim]),
        bytes in vec(prop_oneof![
            3 => prop::sample::select(b"*$%+-:_\r\n0123456789".to_vec()),
            1 => any::<u8>(),
        ], 0..300),
    ) {
        let _any_answer = first(kind, ROOMY, [&bytes[..]]);
    }
}
