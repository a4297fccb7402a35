//! The body of an insert: the parts of a block as they were made, and how they are sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use cityhash_rs::cityhash_102_128;
use hyper::body::{Frame, SizeHint};
use lz4_flex::block::{compress_into, get_maximum_output_size};
use tokio::sync::Notify;

/// Most bytes of a piece in which a body is sent: one compression frame each.
const PIECE: usize = 1024 * 1024;

/// Bytes that are sent one part behind another. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Body(Arc<[Bytes]>);

impl From<Vec<Vec<u8>>> for Body {
    fn from(parts: Vec<Vec<u8>>) -> Self {
        let parts = parts.into_iter().map(Bytes::from);
        Self(parts.filter(|part| !part.is_empty()).collect())
    }
}

impl Body {
    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes, before they are compressed.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// To be sent, compressed or not.
    pub(super) fn sent(self, compress: bool, taken: Arc<Notify>) -> Pieces {
        let left = self.0.iter().map(|part| part.len() as u64).sum();
        Pieces {
            body: self,
            next: (0, 0),
            left,
            compress,
            taken,
        }
    }
}

/// A body on its way, handed on piece by piece, without being copied unless it is compressed.
pub(super) struct Pieces {
    body: Body,
    /// The part that is next, and how much of it is sent.
    next: (usize, usize),
    /// Bytes that are not sent yet.
    left: u64,
    compress: bool,
    /// Told of each piece that is taken.
    taken: Arc<Notify>,
}

impl Pieces {
    fn next(&mut self) -> Option<Bytes> {
        let (index, from) = self.next;
        let part = self.body.0.get(index)?;
        let to = part.len().min(from + PIECE);
        self.next = if to == part.len() {
            (index + 1, 0)
        } else {
            (index, to)
        };
        self.left -= (to - from) as u64;
        Some(part.slice(from..to))
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(piece) = self.next() else {
            return Poll::Ready(None);
        };
        self.taken.notify_one();
        let piece = if self.compress {
            compressed(&piece)
        } else {
            Ok(piece)
        };
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.compress {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.left)
        }
    }
}

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const LZ4: u8 = 0x82;

/// One of ClickHouse's compressed blocks: a 128-bit CityHash of what follows, a method byte, both sizes, the data.
fn compressed(plain: &[u8]) -> Result<Bytes, io::Error> {
    let mut block = BytesMut::zeroed(CHECKSUM + HEADER + get_maximum_output_size(plain.len()));
    let size = compress_into(plain, &mut block[CHECKSUM + HEADER..]).map_err(io::Error::other)?;
    block.truncate(CHECKSUM + HEADER + size);
    let mut head = &mut block[CHECKSUM..CHECKSUM + HEADER];
    head.put_u8(LZ4);
    head.put_u32_le((HEADER + size) as u32);
    head.put_u32_le(plain.len() as u32);
    // The halves of the hash stand in the order in which the server writes them.
    let checksum = cityhash_102_128(&block[CHECKSUM..]).rotate_left(64).to_le_bytes();
    block[..CHECKSUM].copy_from_slice(&checksum);
    Ok(block.freeze())
}
