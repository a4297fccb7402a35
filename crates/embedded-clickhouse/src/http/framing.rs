//! ClickHouse's compressed blocks: a 128-bit CityHash (1.0.2) of what follows, a method byte, both sizes, the data.

use cityhash_rs::cityhash_102_128;

use crate::engine::EngineError;

const LZ4: u8 = 0x82;
const NONE: u8 = 0x02;
const CHECKSUM: usize = 16;
const HEADER: usize = 9;
/// Uncompressed bytes of the blocks we write.
const BLOCK: usize = 1024 * 1024;

fn broken(what: &str) -> EngineError {
    EngineError(format!(
        "Code: 271. DB::Exception: compressed request body: {what}. (CANNOT_DECOMPRESS)"
    ))
}

/// Decodes all blocks of a body.
pub(super) fn decode(mut body: &[u8], most: usize) -> Result<Vec<u8>, EngineError> {
    let mut out = Vec::new();
    while !body.is_empty() {
        if body.len() < CHECKSUM + HEADER {
            return Err(broken("a block's header is cut off"));
        }
        let size =
            |at: usize| u32::from_le_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]) as usize;
        let (compressed, plain) = (size(CHECKSUM + 1), size(CHECKSUM + 5));
        if compressed < HEADER || body.len() < CHECKSUM + compressed {
            return Err(broken("a block is cut off"));
        }
        if out.len() + plain > most {
            return Err(broken("the data is larger than --max-body-bytes"));
        }
        let block = &body[CHECKSUM..CHECKSUM + compressed];
        if body[..CHECKSUM] != checksum(block) {
            return Err(EngineError(
                "Code: 40. DB::Exception: Checksum doesn't match: corrupted data. (CHECKSUM_DOESNT_MATCH)"
                    .into(),
            ));
        }
        match block[0] {
            LZ4 => {
                let data = lz4_flex::block::decompress(&block[HEADER..], plain)
                    .map_err(|error| broken(&error.to_string()))?;
                out.extend_from_slice(&data);
            }
            NONE => out.extend_from_slice(&block[HEADER..]),
            method => {
                return Err(broken(&format!(
                    "method {method:#x} is not supported, only LZ4 and none"
                )));
            }
        }
        body = &body[CHECKSUM + compressed..];
    }
    Ok(out)
}

/// Encodes an answer as LZ4 blocks.
pub(super) fn encode(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() / 2 + 64);
    for plain in data.chunks(BLOCK) {
        let compressed = lz4_flex::block::compress(plain);
        let mut block = Vec::with_capacity(HEADER + compressed.len());
        block.push(LZ4);
        block.extend_from_slice(&((HEADER + compressed.len()) as u32).to_le_bytes());
        block.extend_from_slice(&(plain.len() as u32).to_le_bytes());
        block.extend_from_slice(&compressed);
        out.extend_from_slice(&checksum(&block));
        out.extend_from_slice(&block);
    }
    out
}

/// The hash with its two halves in the order in which the server writes them.
fn checksum(block: &[u8]) -> [u8; CHECKSUM] {
    cityhash_102_128(block).rotate_left(64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(data in prop::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(decode(&encode(&data), 1 << 20).unwrap(), data);
        }

        #[test]
        fn a_damaged_or_cut_body_is_refused(at in 0usize..60, cut in 1usize..30) {
            let body = encode(b"a perfectly ordinary body, a perfectly ordinary body");
            let mut damaged = body.clone();
            damaged[at % body.len()] ^= 1;
            prop_assert!(decode(&damaged, 1 << 20).is_err());
            prop_assert!(decode(&body[..body.len() - cut.min(body.len() - 1)], 1 << 20).is_err());
        }
    }
}
