//! Slots of a cluster in words, for `status` and `check`. Pure.

use crate::intake::name_key;
use crate::runtime::streams::few;
use crate::set_aside::{QUEUE, REJECTED};
use crate::stores::{OpenSlot, slot_of};
use crate::{cohorts, replay};

/// Keys of ours beside the streams, of which there is one each.
const KEYS: [&str; 6] = [
    QUEUE,
    REJECTED,
    replay::LOCK,
    cohorts::LOCK,
    "processor:instances",
    "processor:sharing",
];

/// A slot that is neither here nor there: what of ours is in it, these streams and what is kept of these instances included, and
/// what to do.
pub(super) fn described(open: &OpenSlot, streams: &[&str], instances: &[&str]) -> String {
    let OpenSlot {
        slot,
        from,
        to,
        said_by,
    } = open;
    let names: Vec<String> = instances.iter().map(|name| name_key(name)).collect();
    let keys = streams.iter().copied().chain(KEYS);
    let keys = keys.chain(names.iter().map(String::as_str));
    let of_slot: Vec<&str> = keys.filter(|key| slot_of(key) == *slot).collect();
    let keys = if of_slot.is_empty() {
        "person keys, perhaps".to_owned()
    } else {
        few(&of_slot)
    };
    let known = match said_by.as_slice() {
        [one] => format!(", as {one} alone says"),
        _ => String::new(),
    };
    format!(
        "slot {slot} ({keys}) is open, on its way from {from} to {to}{known}: its keys may be on either. Unless somebody moves it \
         now, end the move: `redis-cli --cluster fix {from}`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_slot_is_named_with_what_of_ours_is_in_it() {
        let open = |slot, said_by: &[&str]| OpenSlot {
            slot,
            from: "a:1".into(),
            to: "b:2".into(),
            said_by: said_by.iter().map(|name| (*name).to_owned()).collect(),
        };
        let streams = ["stream:{0}", "s"];
        let said = described(&open(slot_of(streams[0]), &["a:1", "b:2"]), &streams, &[]);
        assert!(
            said.starts_with("slot 13907 (stream:{0}) is open, on its way from a:1 to b:2: its keys"),
            "{said}"
        );
        let said = described(&open(slot_of(QUEUE), &["b:2"]), &streams, &[]);
        assert!(
            said.contains("(events:dlq)")
                && said.contains("as b:2 alone says")
                && said.ends_with("--cluster fix a:1`"),
            "{said}"
        );
        let said = described(&open(slot_of(&name_key("w1")), &["b:2"]), &streams, &["w0", "w1"]);
        assert!(said.contains(&format!("({})", name_key("w1"))), "{said}");
        assert!(described(&open(1, &["b:2"]), &streams, &["w0"]).contains("(person keys, perhaps)"));
    }
}
