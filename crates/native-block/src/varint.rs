//! Variable-length unsigned integers: seven bits a byte, lowest first.

/// Most bytes of an integer.
pub(crate) const MOST_BYTES: usize = 10;

pub(crate) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    write(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #[test]
    fn seven_bits_a_byte_lowest_first() {
        for (value, bytes) in [
            (0, vec![0]),
            (127, vec![0x7f]),
            (128, vec![0x80, 1]),
            (300, vec![0xac, 2]),
            (
                u64::MAX,
                vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            ),
        ] {
            let mut out = Vec::new();
            super::write(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }
}
