//! A real server's replies, in both versions of the protocol.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use stream_reply::{Limits, ReplyEnd, ReplyKind, SimpleReply, decode_simple, encode_command};
use tempfile::TempDir;

use crate::reading::{Reading, ours, theirs};

const LIMITS: Limits = Limits {
    block_bytes: 4096,
    entry_bytes: 1 << 20,
};

struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.path().join("socket"))
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    fn connect(&self) -> Connection {
        let path = self.folder.path().join("socket");
        let started = Instant::now();
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                    return Connection { stream };
                }
                Err(error) => assert!(started.elapsed().as_secs() < 30, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _may_have_ended = self.process.kill();
        let _may_have_ended = self.process.wait();
    }
}

struct Connection {
    stream: UnixStream,
}

impl Connection {
    fn send(&mut self, args: &[&[u8]]) {
        let mut out = BytesMut::new();
        encode_command(args, &mut out);
        self.stream.write_all(&out).unwrap();
    }

    /// Sends a command whose reply is short.
    fn ask(&mut self, args: &[&[u8]]) -> SimpleReply {
        self.send(args);
        let mut input = BytesMut::new();
        loop {
            self.receive(&mut input);
            if let Some(reply) = decode_simple(&mut input).unwrap() {
                assert!(input.is_empty());
                return reply;
            }
        }
    }

    fn receive(&mut self, input: &mut BytesMut) {
        let mut buffer = [0; 1460];
        let length = self.stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the server closed the connection");
        input.extend_from_slice(&buffer[..length]);
    }

    /// Sends a command; its reply as this crate reads it, after comparing with the client library's reading.
    fn read(&mut self, kind: ReplyKind, args: &[&[u8]]) -> Reading {
        self.send(args);
        let mut bytes = BytesMut::new();
        loop {
            self.receive(&mut bytes);
            if let Some(reading) = ours(kind, LIMITS, bytes.chunks(100)).unwrap() {
                if !matches!(reading.end, ReplyEnd::Error { .. }) {
                    assert_eq!(reading, theirs(kind, &bytes));
                }
                return reading;
            }
        }
    }
}

fn add(connection: &mut Connection, stream: &[u8], id: &str, fields: &[&[u8]]) {
    let args = [&[&b"XADD"[..], stream, id.as_bytes()], fields].concat();
    assert!(matches!(connection.ask(&args), SimpleReply::Bulk(_)));
}

fn both_protocols(case: impl Fn(&mut Connection)) {
    let server = Server::start();
    for version in [&b"2"[..], b"3"] {
        let mut connection = server.connect();
        connection.ask(&[b"FLUSHALL"]);
        // Its reply ends with an empty list within a list, which no short reply holds.
        connection.send(&[b"HELLO", version]);
        let mut hello = BytesMut::new();
        while !hello.ends_with(b"*0\r\n") {
            connection.receive(&mut hello);
        }
        case(&mut connection);
    }
}

#[test]
fn entries_of_two_streams_are_read_as_the_client_library_reads_them() {
    both_protocols(|connection| {
        let long = vec![b'z'; 70_000];
        for n in 1..=300 {
            let stream: &[u8] = if n % 3 == 0 { b"b" } else { b"a" };
            let number = n.to_string();
            let value: &[u8] = if n == 100 { &long } else { number.as_bytes() };
            add(
                connection,
                stream,
                &format!("{n}-7"),
                &[
                    b"event_name",
                    b"na\xffme\r\n",
                    b"other",
                    b"skipped",
                    b"e",
                    value,
                    b"e",
                    b"twice",
                ],
            );
        }
        for stream in [&b"a"[..], b"b"] {
            let made = connection.ask(&[b"XGROUP", b"CREATE", stream, b"group", b"0"]);
            assert_eq!(made, SimpleReply::Status("OK".into()));
        }
        let command: [&[u8]; 11] = [
            b"XREADGROUP",
            b"GROUP",
            b"group",
            b"me",
            b"COUNT",
            b"250",
            b"STREAMS",
            b"a",
            b"b",
            b">",
            b">",
        ];
        let reading = connection.read(ReplyKind::Read, &command);
        assert_eq!((reading.entries.len(), reading.end), (300, ReplyEnd::Complete));
        let again = connection.read(ReplyKind::Read, &command);
        assert_eq!((again.entries.len(), again.end), (0, ReplyEnd::Nothing));
    });
}

#[test]
fn claims_tell_the_deleted_the_cursor_and_what_is_left() {
    both_protocols(|connection| {
        for n in 1..=5 {
            add(connection, b"a", &format!("{n}-0"), &[b"event_name", b"x"]);
        }
        connection.ask(&[b"XGROUP", b"CREATE", b"a", b"group", b"0"]);
        let read: [&[u8]; 7] = [b"XREADGROUP", b"GROUP", b"group", b"dead", b"STREAMS", b"a", b">"];
        assert_eq!(connection.read(ReplyKind::Read, &read).entries.len(), 5);
        connection.ask(&[b"XDEL", b"a", b"2-0"]);

        let history: [&[u8]; 7] = [b"XREADGROUP", b"GROUP", b"group", b"dead", b"STREAMS", b"a", b"0"];
        let pending = connection.read(ReplyKind::Read, &history);
        assert_eq!(
            pending
                .entries
                .iter()
                .filter(|entry| entry.fields.is_none())
                .count(),
            1
        );

        let claim = |start: &'static [u8]| -> [&'static [u8]; 8] {
            [b"XAUTOCLAIM", b"a", b"group", b"me", b"0", start, b"COUNT", b"3"]
        };
        let first = connection.read(ReplyKind::AutoClaim, &claim(b"0-0"));
        let ReplyEnd::Claimed { cursor, deleted } = &first.end else {
            panic!("{first:?}")
        };
        assert_eq!(
            (first.entries.len(), deleted.len(), cursor.to_string().as_str()),
            (2, 1, "4-0")
        );
        let second = connection.read(ReplyKind::AutoClaim, &claim(b"4-0"));
        assert_eq!(second.entries.len(), 2);

        let named: [&[u8]; 8] = [b"XCLAIM", b"a", b"group", b"other", b"0", b"1-0", b"3-0", b"9-9"];
        assert_eq!(connection.read(ReplyKind::Claim, &named).entries.len(), 2);
        let range: [&[u8]; 4] = [b"XRANGE", b"a", b"-", b"+"];
        assert_eq!(connection.read(ReplyKind::Claim, &range).entries.len(), 4);
    });
}

#[test]
fn a_refusal_is_read_as_code_and_message_and_the_connection_goes_on() {
    both_protocols(|connection| {
        let read: [&[u8]; 7] = [b"XREADGROUP", b"GROUP", b"none", b"me", b"STREAMS", b"a", b">"];
        let refusal = connection.read(ReplyKind::Read, &read);
        let ReplyEnd::Error { code, message } = refusal.end else {
            panic!("{refusal:?}")
        };
        assert_eq!(code, "NOGROUP");
        assert!(message.contains("none"), "{message}");
        assert_eq!(connection.ask(&[b"PING"]), SimpleReply::Status("PONG".into()));
    });
}
