//! What visitors do: browse, sign up, come back on another device, change their minds, buy.
//!
//! Anonymous visitors and known users write different person properties, and so do the first and the second device:
//! no key has a value on both sides of a merge, where the contract's order of precedence would decide.

use serde_json::{Value, json};

use super::actor::Actor;
use super::emit::{Draft, Happening, Visit, draft};
use crate::random::{Random, Zipf};
use crate::vocabulary::{ACTIONS, PAGES};

/// One sitting of a visitor, from its first event to its last.
pub(crate) struct Session<'a> {
    random: &'a mut Random,
    actions: &'a Zipf,
    actor: &'a mut Actor,
    device: usize,
    visit: Visit,
    at: i64,
    drafts: &'a mut Vec<Draft>,
}

impl<'a> Session<'a> {
    /// Lets `actor` sit down at `at` (milliseconds since 1970).
    pub(crate) fn begin(
        random: &'a mut Random,
        actions: &'a Zipf,
        (project, actor): (usize, &'a mut Actor),
        at: i64,
        drafts: &'a mut Vec<Draft>,
    ) -> Self {
        let device = usize::from(actor.signed_up && random.chance(250));
        let visit = Visit::new(random, project, actor.devices[device].clone());
        Self {
            random,
            actions,
            actor,
            device,
            visit,
            at,
            drafts,
        }
    }

    /// Plays the sitting.
    pub(crate) fn play(mut self) {
        let view = if self.visit.project == 1 {
            "$screen"
        } else {
            "$pageview"
        };
        let first = self.first_properties();
        self.happen(view, first);
        for _ in 0..self.random.between(0, 6) {
            match self.random.below(100) {
                0..45 => {
                    self.visit.turn_to(*self.random.one(&PAGES));
                    self.happen(view, Value::Null);
                }
                45..85 => {
                    let action = ACTIONS[self.actions.rank(self.random)];
                    self.happen(action, Value::Null);
                }
                _ => self.happen("$pageleave", Value::Null),
            }
        }
        if !self.actor.devices[self.device].linked {
            let willing = if self.device == 0 { 350 } else { 700 };
            if self.random.chance(willing) {
                self.sign_up();
            }
        }
        if self.actor.devices[self.device].linked {
            self.use_account();
        }
        if self.random.chance(500) {
            self.happen("$pageleave", Value::Null);
        }
    }

    /// Sends an event a few seconds after the one before.
    fn happen(&mut self, name: &str, user_properties: Value) {
        self.at += self.random.between(3_000, 90_000);
        let actor = &*self.actor;
        let anonymous = &actor.devices[self.device].anonymous_id;
        let sends_anonymous =
            name == "$identify" || (actor.devices[self.device].linked && self.random.chance(300));
        let happening = Happening {
            name,
            at: self.at,
            distinct_id: actor.distinct_id(self.device),
            anonymous_id: if sends_anonymous { anonymous } else { "" },
            user_properties,
        };
        self.drafts.push(draft(self.random, &self.visit, happening));
    }

    /// What an SDK says about a visitor it does not know, noise included.
    fn first_properties(&mut self) -> Value {
        if self.actor.devices[self.device].linked {
            return if self.random.chance(300) {
                json!({"$set": {"$browser": "Chrome", "$current_url": "https://nordlicht.example/"}, "$os": "Linux"})
            } else {
                Value::Null
            };
        }
        if self.device == 0 {
            json!({
                "$set_once": {
                    "initial_referrer": self.visit.referrer(), "$initial_utm_source": "mail",
                    "$referrer": self.visit.referrer(), "$language": "de",
                },
                "$set": {"$timezone": "Europe/Berlin", "ab_group": self.random.pick(&["a", "b"])},
            })
        } else {
            json!({"second_device": true, "$set_once": {"second_device_seen_at": "2026-06-05T08:00:00Z"}})
        }
    }

    /// `$identify`: from here on the device speaks for the user.
    fn sign_up(&mut self) {
        let again = self.actor.signed_up;
        self.actor.signed_up = true;
        self.actor.devices[self.device].linked = true;
        let (name, email) = (self.actor.name, self.actor.email.clone());
        let properties = if again {
            json!({"name": name})
        } else {
            json!({
                "$set": {"name": "to be overruled", "email": email, "plan": "trial", "trial": true},
                "$set_once": {"signup_source": self.visit.referrer(), "signed_up_at": "2026-06-01T09:00:00Z"},
                "name": name,
            })
        };
        self.happen("$identify", properties);
    }

    fn use_account(&mut self) {
        if self.random.chance(300) {
            self.change_profile();
        }
        if self.random.chance(250) {
            self.happen("checkout_started", Value::Null);
            if self.random.chance(700) {
                let credits = self.random.between(-5, 500);
                self.happen(
                    "order_completed",
                    json!({"credits": credits, "last_order": {"express": null}}),
                );
                self.happen("$set_once", json!({"$set_once": {"first_credits": credits}}));
            }
        }
    }

    /// Numbered changes: what a person ends up with depends on their order.
    fn change_profile(&mut self) {
        self.actor.changes += 1;
        let number = self.actor.changes;
        let properties = match number % 4 {
            1 => json!({"$set": {"plan": "pro", "seats": number}, "$unset": ["trial"]}),
            2 => json!({"город": "Kраснодар 🌻", "newsletter": number % 8 == 2, "tags": ["a", null, number]}),
            3 => {
                json!({"$set": {"plan": format!("team-{number}"), "birthday": "1990-02-03"}, "$unset": ["seats", "$os", 7]})
            }
            _ => json!({"$set": {"seats": null, "company": {"name": "Acme", "size": number}}, "$unset": []}),
        };
        self.happen("$set", properties);
    }
}
