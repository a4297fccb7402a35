//! The table of fields to keep, and a fast look-up of names in it.

use std::sync::Arc;

use crate::wire::Cursor;

/// Most names in a table: whether an entry has a field is one bit of a `u64`.
const MOST_FIELDS: usize = 64;
/// Longest name in bytes. Longer names are unknown without being read.
const LONGEST_NAME: usize = 64;

/// The field names to keep, in the order by which [`Entry::field`](crate::Entry::field) counts them.
///
/// In a `const` or `static`, the compiler finds mistakes in the names.
#[derive(Debug, Clone)]
pub struct FieldTable {
    names: &'static [&'static str],
    /// For each length, the names of that length, one bit each.
    of_length: [u64; LONGEST_NAME + 1],
}

impl FieldTable {
    /// Makes a table of these names.
    ///
    /// # Panics
    ///
    /// If there are more than 64 names, one is longer than 64 bytes, or one is given twice.
    pub const fn new(names: &'static [&'static str]) -> Self {
        assert!(names.len() <= MOST_FIELDS, "a field table holds at most 64 names");
        let mut of_length = [0; LONGEST_NAME + 1];
        let mut index = 0;
        while index < names.len() {
            let name = names[index].as_bytes();
            assert!(name.len() <= LONGEST_NAME, "a field name has at most 64 bytes");
            let mut earlier = 0;
            while earlier < index {
                assert!(
                    !equal(names[earlier].as_bytes(), name),
                    "a field table holds each name once"
                );
                earlier += 1;
            }
            of_length[name.len()] |= 1 << index;
            index += 1;
        }
        Self { names, of_length }
    }

    /// The names, in index order.
    pub const fn names(&self) -> &'static [&'static str] {
        self.names
    }

    /// Number of fields that an entry may have.
    pub(crate) const fn width(&self) -> usize {
        self.names.len()
    }

    /// Whether the table may have a name of this many bytes.
    #[inline]
    pub(crate) fn has_length(&self, length: u64) -> bool {
        usize::try_from(length).is_ok_and(|length| self.of_length.get(length).is_some_and(|&mask| mask != 0))
    }

    /// The index of a name in the table.
    pub fn position(&self, name: &[u8]) -> Option<usize> {
        let mut candidates = *self.of_length.get(name.len())?;
        while candidates != 0 {
            let index = candidates.trailing_zeros() as usize;
            if self.is_name(index, name) {
                return Some(index);
            }
            candidates &= candidates - 1;
        }
        None
    }

    #[inline]
    fn is_name(&self, index: usize, name: &[u8]) -> bool {
        self.names
            .get(index)
            .is_some_and(|known| known.as_bytes() == name)
    }
}

const fn equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Remembers which field followed which, because a producer writes its fields in the same order every time.
///
/// The guess is always checked: a wrong one costs a comparison, never a wrong answer.
#[derive(Debug)]
pub(crate) struct FieldOrder {
    table: Arc<FieldTable>,
    /// Each name as it is written in a reply: its length, and itself.
    written: Vec<Vec<u8>>,
    /// The field found last; `MOST_FIELDS` at the beginning of an entry.
    last: usize,
    followed_by: [u8; MOST_FIELDS + 1],
}

impl FieldOrder {
    pub(crate) fn new(table: Arc<FieldTable>) -> Self {
        let mut followed_by = [0; MOST_FIELDS + 1];
        for (successor, index) in followed_by.iter_mut().zip(1..=MOST_FIELDS as u8) {
            *successor = index;
        }
        followed_by[MOST_FIELDS] = 0;
        let names = table.names().iter();
        let written = names.map(|name| format!("${}\r\n{name}\r\n", name.len()).into_bytes());
        Self {
            written: written.collect(),
            table,
            last: MOST_FIELDS,
            followed_by,
        }
    }

    pub(crate) fn table(&self) -> &FieldTable {
        &self.table
    }

    /// Must be called before the first field of an entry.
    pub(crate) fn begin(&mut self) {
        self.last = MOST_FIELDS;
    }

    /// Consumes the name that followed last time, if it comes again and has arrived. Returns its index.
    #[inline]
    pub(crate) fn skip_expected(&mut self, cursor: &mut Cursor<'_>) -> Option<usize> {
        let guess = usize::from(self.followed_by[self.last]);
        let comes = self.written.get(guess).is_some_and(|name| cursor.skip(name));
        comes.then_some(guess)
    }

    /// The field of this index was the entry's next.
    #[inline]
    pub(crate) fn note(&mut self, index: usize) {
        self.last = index;
    }

    /// Index of the next name of the entry, `None` for a field that is not kept.
    #[inline]
    pub(crate) fn find(&mut self, name: &[u8]) -> Option<usize> {
        let guess = usize::from(self.followed_by[self.last]);
        let index = if self.table.is_name(guess, name) {
            guess
        } else {
            let index = self.table.position(name)?;
            self.followed_by[self.last] = index as u8;
            index
        };
        self.last = index;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: FieldTable = FieldTable::new(&["alpha", "beta", "gamma", "delta", ""]);

    #[test]
    fn every_name_is_found_at_its_index_and_no_other_is() {
        for (index, name) in TABLE.names().iter().enumerate() {
            assert_eq!(TABLE.position(name.as_bytes()), Some(index));
        }
        for unknown in [&b"alphA"[..], b"bet", b"betas", b"\xff", &[b'a'; 500]] {
            assert_eq!(TABLE.position(unknown), None);
        }
    }

    #[test]
    fn any_order_is_found_on_the_first_and_on_later_entries() {
        let mut order = FieldOrder::new(Arc::new(TABLE.clone()));
        for _ in 0..3 {
            order.begin();
            for (name, index) in [
                ("delta", Some(3)),
                ("unknown", None),
                ("alpha", Some(0)),
                ("gamma", Some(2)),
                ("", Some(4)),
            ] {
                assert_eq!(order.find(name.as_bytes()), index);
            }
        }
        assert_eq!(order.followed_by[3], 0, "the order was learned");
    }

    #[test]
    fn a_name_given_twice_is_found_twice() {
        let mut order = FieldOrder::new(Arc::new(TABLE.clone()));
        assert_eq!(
            [order.find(b"beta"), order.find(b"beta"), order.find(b"gamma")],
            [Some(1), Some(1), Some(2)]
        );
    }

    #[test]
    fn sixty_four_names_fit() {
        let names: Vec<&'static str> = (0..64)
            .map(|n| &*Box::leak(format!("field{n}").into_boxed_str()))
            .collect();
        let mut order = FieldOrder::new(Arc::new(FieldTable::new(names.leak())));
        for _ in 0..2 {
            order.begin();
            assert!((0..64).all(|n| order.find(format!("field{n}").as_bytes()) == Some(n)));
        }
    }

    #[test]
    #[should_panic(expected = "each name once")]
    fn a_name_given_twice_to_the_table_is_refused() {
        let _ = FieldTable::new(&["a", "b", "a"]);
    }
}
