//! Slots of a cluster: which keys a command names, and whether one node has them all.

use redis::{Arg, Cmd};

/// Slots of a cluster.
const SLOTS: u16 = 16384;

/// Commands without a key.
const KEYLESS: [&[u8]; 9] = [
    b"ASKING", b"CLIENT", b"CLUSTER", b"CONFIG", b"EXEC", b"INFO", b"MULTI", b"PING", b"TIME",
];

/// The slot of a key: that of the text between its first braces, if there is one.
pub(super) fn of_key(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16 as XMODEM has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let crc = crc ^ (u16::from(*byte) << 8);
        (0..8).fold(crc, |crc, _bit| {
            let carry = if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            (crc << 1) ^ carry
        })
    })
}

/// The slot of a command's first key; nothing when it names none.
pub(super) fn of(command: &Cmd) -> Option<u16> {
    let words = words(command);
    keys(&words).first().map(|key| of_key(key))
}

/// Checks, where tests run, that commands that are sent together can be served by one node of a cluster.
pub(super) fn assert_one<'a>(during: &str, commands: impl IntoIterator<Item = &'a Cmd>) {
    if cfg!(debug_assertions) {
        let words: Vec<Vec<&[u8]>> = commands.into_iter().map(words).collect();
        let keys: Vec<&[u8]> = words.iter().flat_map(|words| keys(words)).copied().collect();
        assert_same(during, &keys);
    }
}

/// The same for a command that is written as its words.
pub(crate) fn assert_one_of_words(words: &[&[u8]]) {
    if cfg!(debug_assertions) {
        assert_same("a command of its own connection", keys(words));
    }
}

fn assert_same(during: &str, keys: &[&[u8]]) {
    let other = keys.windows(2).find(|pair| of_key(pair[0]) != of_key(pair[1]));
    let shown = other.map(|pair| [pair[0], pair[1]].map(String::from_utf8_lossy));
    debug_assert!(
        shown.is_none(),
        "{during}: {shown:?} may be on different nodes of a cluster: send one command for each (`Redis::ask_many`)"
    );
}

fn words(command: &Cmd) -> Vec<&[u8]> {
    let words = command.args_iter();
    words
        .map(|word| match word {
            Arg::Simple(word) => word,
            _ => b"0",
        })
        .collect()
}

/// The keys among a command's words.
fn keys<'a, 'b>(words: &'a [&'b [u8]]) -> &'a [&'b [u8]] {
    let Some((name, rest)) = words.split_first() else {
        return &[];
    };
    let first = |from: usize| rest.get(from..=from).unwrap_or_default();
    match *name {
        name if KEYLESS.contains(&name) => &[],
        b"DEL" | b"EXISTS" | b"MGET" => rest,
        b"XGROUP" | b"XINFO" => first(1),
        b"EVAL" => {
            let count = rest
                .get(1)
                .and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
            rest.get(2..2 + count.unwrap_or(0)).unwrap_or_default()
        }
        b"XREADGROUP" => {
            // Group and consumer may have any name.
            let options = rest.get(3..).unwrap_or_default();
            let streams = options.iter().position(|word| *word == b"STREAMS");
            let streams = streams.map_or(&[] as &[&[u8]], |at| &options[at + 1..]);
            &streams[..streams.len() / 2]
        }
        _ => first(0),
    }
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;
    use crate::stores::script;

    #[test]
    fn slots_are_those_of_the_servers() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        // As CLUSTER KEYSLOT answers.
        for (key, slot) in [
            ("foo", 12182),
            ("events:incoming", 7046),
            ("partition:{0}", 13907),
            ("", 0),
        ] {
            assert_eq!(of_key(key.as_bytes()), slot, "{key}");
        }
        let same = |one: &str, other: &str| of_key(one.as_bytes()) == of_key(other.as_bytes());
        assert!(same("{user}.following", "{user}.followers") && same("a{b}{c}", "b"));
        assert!(!same("a{}{b}", "b") && !same("a{b", "b"));
    }

    #[test]
    fn keys_are_found_wherever_they_stand() {
        let keys_of = |command: &Cmd| -> Vec<String> {
            let words = words(command);
            let keys = keys(&words)
                .iter()
                .map(|key| String::from_utf8_lossy(key).into_owned());
            keys.collect()
        };
        assert_eq!(keys_of(cmd("GET").arg("a")), ["a"]);
        assert_eq!(keys_of(cmd("DEL").arg(&["a", "b"])), ["a", "b"]);
        assert_eq!(keys_of(script("return 1", &["a", "b"]).arg("c")), ["a", "b"]);
        assert_eq!(keys_of(&script("return 1", &[])), [""; 0]);
        assert_eq!(keys_of(cmd("XINFO").arg(&["GROUPS", "a"])), ["a"]);
        let mut read = cmd("XREADGROUP");
        read.arg(&[
            "GROUP", "g", "STREAMS", "COUNT", "1", "STREAMS", "a", "b", ">", ">",
        ]);
        assert_eq!(keys_of(&read), ["a", "b"]);
        assert_eq!(keys_of(cmd("CLIENT").arg("ID")), [""; 0]);
    }

    #[test]
    #[should_panic(expected = "may be on different nodes")]
    fn keys_of_several_slots_are_found_out() {
        assert_one("test", [cmd("MGET").arg(&["a", "b"]) as &Cmd]);
    }

    #[test]
    #[should_panic(expected = "may be on different nodes")]
    fn commands_of_several_slots_are_found_out() {
        assert_one("test", [cmd("GET").arg("a") as &Cmd, cmd("GET").arg("b")]);
    }

    #[test]
    fn keys_of_one_slot_may_be_sent_together() {
        assert_one("test", [cmd("MGET").arg(&["{x}a", "{x}b"]) as &Cmd, &cmd("PING")]);
    }
}
