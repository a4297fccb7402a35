//! Bytes in pieces of one size: a column grows without being copied, and what large blocks leave behind fits the next.

/// Bytes of a piece, unless one value has more.
const PIECE: usize = 64 << 10;

/// Bytes that are appended to.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl Pieces {
    /// Where the next value of up to so many bytes goes, in one piece.
    pub(crate) fn with_room(&mut self, bytes: usize) -> &mut Vec<u8> {
        if self.open.len() + bytes > PIECE && !self.open.is_empty() {
            let next = Vec::with_capacity(PIECE.max(bytes));
            self.full.push(std::mem::replace(&mut self.open, next));
        }
        &mut self.open
    }

    /// Takes all of it out, in order.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        let mut pieces = std::mem::take(&mut self.full);
        pieces.push(std::mem::take(&mut self.open));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fill_pieces_and_large_ones_have_their_own() {
        let mut pieces = Pieces::default();
        let sizes = [PIECE / 2, PIECE / 2, 1, 3 * PIECE, 1];
        for (size, byte) in sizes.into_iter().zip(0..) {
            let room = pieces.with_room(size);
            room.resize(room.len() + size, byte);
        }
        let taken = pieces.take();
        let lengths: Vec<usize> = taken.iter().map(Vec::len).collect();
        assert_eq!(lengths, [PIECE, 1, 3 * PIECE, 1]);
        assert_eq!(pieces.take(), [Vec::new()]);
    }
}
