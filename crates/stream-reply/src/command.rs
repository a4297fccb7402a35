//! Writes commands as the server reads them: arrays of strings, so that no argument can be taken for anything else.

use bytes::{BufMut, BytesMut};

use crate::id::{LONGEST_ID, StreamId};

/// Appends a command to `out`.
pub fn encode_command(args: &[&[u8]], out: &mut BytesMut) {
    header(b'*', args.len() as u64, out);
    for arg in args {
        string(arg, out);
    }
}

/// Appends a command with ids among its arguments, such as `XACK` or `XCLAIM`, without allocating a text for each.
///
/// The ids go between `before` and `after`.
pub fn encode_command_with_ids(before: &[&[u8]], ids: &[StreamId], after: &[&[u8]], out: &mut BytesMut) {
    header(b'*', (before.len() + ids.len() + after.len()) as u64, out);
    for arg in before {
        string(arg, out);
    }
    for &id in ids {
        stream_id(id, out);
    }
    for arg in after {
        string(arg, out);
    }
}

fn header(kind: u8, length: u64, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_slice(itoa::Buffer::new().format(length).as_bytes());
    out.put_slice(b"\r\n");
}

fn string(bytes: &[u8], out: &mut BytesMut) {
    header(b'$', bytes.len() as u64, out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn stream_id(id: StreamId, out: &mut BytesMut) {
    let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (ms, seq) = (ms.format(id.ms), seq.format(id.seq));
    out.reserve(LONGEST_ID + 8);
    header(b'$', (ms.len() + 1 + seq.len()) as u64, out);
    for part in [ms.as_bytes(), b"-", seq.as_bytes(), b"\r\n"] {
        out.put_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_strings_whatever_their_bytes() {
        let mut out = BytesMut::new();
        encode_command(&[b"SET", b"", b"a\r\nb\xff"], &mut out);
        assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\na\r\nb\xff\r\n");
    }

    #[test]
    fn ids_stand_between_the_other_arguments() {
        let mut out = BytesMut::new();
        let ids = [StreamId::new(12, 3), StreamId::MAX];
        encode_command_with_ids(&[b"XCLAIM"], &ids, &[b"JUSTID"], &mut out);
        let expected = "*4\r\n$6\r\nXCLAIM\r\n$4\r\n12-3\r\n$41\r\n18446744073709551615-18446744073709551615\r\n\
                        $6\r\nJUSTID\r\n";
        assert_eq!(out, expected.as_bytes());
    }
}
