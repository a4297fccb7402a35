//! Written scenes that chance would rarely bring about: shared browsers, chains, illegal and unseen anonymous ids.
//!
//! Each scene has people and devices of its own.

use serde_json::{Value, json};

use super::actor::Device;
use super::emit::{Draft, Happening, Visit, draft};
use crate::random::Random;

/// How many scenes there are.
pub(crate) const SCENES: usize = 30;

/// Plays scene `number` at `at` (milliseconds since 1970).
pub(crate) fn play(random: &mut Random, number: usize, at: i64, drafts: &mut Vec<Draft>) {
    let device = Device::new(random);
    let visit = Visit::new(random, number / 6 % 3, device).online();
    let mut scene = Scene {
        random,
        visit,
        at,
        drafts,
    };
    let id = |role: &str| format!("{role} of scene {number}");
    let (a, b, c) = (id("first"), id("second"), id("browser"));
    match number % 6 {
        0 => scene.shared_browser(&a, &b, &c),
        1 => scene.chain(&a, &b, &c),
        2 => scene.unseen_anonymous(&a, &c),
        3 => scene.illegal_anonymous(&a, number),
        4 => scene.changes_of_mind(&a),
        _ => scene.both_seen_before(&a, &c),
    }
}

struct Scene<'a> {
    random: &'a mut Random,
    visit: Visit,
    at: i64,
    drafts: &'a mut Vec<Draft>,
}

impl Scene<'_> {
    fn send(&mut self, name: &str, distinct_id: &str, anonymous_id: &str, user_properties: Value) {
        self.at += self.random.between(3_000, 20_000);
        let happening = Happening {
            name,
            at: self.at,
            distinct_id,
            anonymous_id,
            user_properties,
        };
        self.drafts.push(draft(self.random, &self.visit, happening));
    }

    fn view(&mut self, distinct_id: &str) {
        self.send("$pageview", distinct_id, "", Value::Null);
    }

    fn identify(&mut self, distinct_id: &str, anonymous_id: &str) {
        self.send(
            "$identify",
            distinct_id,
            anonymous_id,
            json!({"name": distinct_id}),
        );
    }

    /// Two users, one after the other, at one browser: they must stay two.
    fn shared_browser(&mut self, first: &str, second: &str, browser: &str) {
        self.view(browser);
        self.identify(first, browser);
        self.view(first);
        self.identify(second, browser);
        self.view(second);
        self.view(browser);
    }

    /// An identified id given as the anonymous id of another user: refused.
    fn chain(&mut self, first: &str, second: &str, browser: &str) {
        self.view(browser);
        self.view(first);
        self.identify(first, browser);
        self.identify(second, first);
        self.view(browser);
        self.view(second);
    }

    /// The anonymous id's own events come only after the `$identify`.
    fn unseen_anonymous(&mut self, user: &str, browser: &str) {
        self.identify(user, browser);
        self.view(browser);
        self.identify(user, browser);
        self.view(user);
    }

    /// The event lands, nothing is merged.
    fn illegal_anonymous(&mut self, user: &str, number: usize) {
        const ILLEGAL: [&str; 5] = ["null", " Anonymous ", "[object Object]", "0", "NaN\t"];
        self.identify(user, ILLEGAL[number % ILLEGAL.len()]);
        self.identify(user, ILLEGAL[(number + 1) % ILLEGAL.len()]);
        self.view(user);
    }

    /// Set, removed, set once, removed again, in order.
    fn changes_of_mind(&mut self, user: &str) {
        self.identify(user, "");
        self.send(
            "$set",
            user,
            "",
            json!({"colour": "red", "$set": {"colour": "lost", "shape": "round"}}),
        );
        self.send("$set", user, "", json!({"$unset": ["colour", "never-there"]}));
        self.send(
            "$set_once",
            user,
            "",
            json!({"$set_once": {"colour": "blue", "shape": "square"}}),
        );
        self.send("$set_once", user, "", json!({"$set_once": {"colour": "green"}}));
        self.send("$set", user, "", json!({"$set": {"gone": 1}, "$unset": ["gone"]}));
        self.send(
            "$set",
            user,
            "",
            json!({"$set": "not an object", "$set_once": [1], "$unset": {"shape": 1}}),
        );
    }

    /// Both ids have a history and properties; one person remains.
    fn both_seen_before(&mut self, user: &str, browser: &str) {
        self.send("$set", browser, "", json!({"found_by": "browser", "seen": 1}));
        self.send(
            "$set",
            user,
            "",
            json!({"role": "user", "$set_once": {"level_reached": 3}}),
        );
        self.identify(user, browser);
        self.send("$set", browser, "", json!({"seen": 2}));
        self.view(user);
    }
}
