//! The account of short histories whose outcome the contract spells out, and of any history.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;
use sample_events::{Line, PROJECTS, ProjectAccount, account, generate, person_id};
use serde_json::{Value, json};
use uuid::Uuid;

const PROJECT: &str = PROJECTS[0].id;

/// A history that grows; event times rise by a second unless said.
#[derive(Default)]
struct History(Vec<Line>);

impl History {
    fn event(self, distinct_id: &str, user_properties: Value) -> Self {
        self.add("click", distinct_id, "", user_properties)
    }

    fn view(self, distinct_id: &str) -> Self {
        self.event(distinct_id, json!({}))
    }

    fn identify(self, distinct_id: &str, anonymous_id: &str) -> Self {
        self.add("$identify", distinct_id, anonymous_id, json!({}))
    }

    fn add(mut self, name: &str, distinct_id: &str, anonymous_id: &str, user_properties: Value) -> Self {
        let number = self.0.len();
        let line = Line::new()
            .with("event_id", Uuid::from_u128(number as u128).to_string())
            .with("project_id", PROJECT)
            .with("event_name", name)
            .with("distinct_id", distinct_id)
            .with("anonymous_id", anonymous_id)
            .with("user_properties", user_properties)
            .with(
                "timestamp",
                format!("2026-06-01T00:{:02}:{:02}.000Z", number / 60, number % 60),
            );
        self.0.push(line);
        self
    }

    /// Delivers a line once more.
    fn again(mut self, index: usize) -> Self {
        self.0.push(self.0[index].clone());
        self
    }

    /// Delivers the lines in this order.
    fn in_order(self, order: &[usize]) -> Self {
        Self(order.iter().map(|index| self.0[*index].clone()).collect())
    }

    fn account(&self) -> ProjectAccount {
        account(&self.0).projects[PROJECT].clone()
    }
}

fn id(distinct_id: &str) -> Uuid {
    person_id(PROJECT, distinct_id)
}

fn mapped(account: &ProjectAccount) -> Vec<(&str, Uuid)> {
    account
        .mappings
        .iter()
        .map(|(distinct_id, person)| (distinct_id.as_str(), *person))
        .collect()
}

#[test]
fn story_3_a_chain_stops_at_an_identified_user() {
    let chain = History::default()
        .view("x1")
        .view("x2")
        .identify("x2", "x1")
        .identify("u1", "x2")
        .view("x1");
    let account = chain.again(0).again(1).account();
    assert_eq!(
        mapped(&account),
        [("u1", id("u1")), ("x1", id("x2")), ("x2", id("x2"))]
    );
    assert_eq!(
        (account.merges, account.merges_refused, account.persons),
        (1, 1, 2)
    );
    assert_eq!(
        (account.people[&id("x2")].events, account.people[&id("u1")].events),
        (4, 1)
    );
}

#[test]
fn story_4_a_shared_browser_leaves_two_users() {
    let account = History::default()
        .identify("u1", "z")
        .identify("u2", "z")
        .view("z")
        .account();
    assert_eq!(
        mapped(&account),
        [("u1", id("u1")), ("u2", id("u2")), ("z", id("u1"))]
    );
    assert_eq!((account.merges, account.merges_refused), (0, 1));
    assert_eq!(
        (account.people[&id("u1")].events, account.people[&id("u2")].events),
        (2, 1)
    );
}

#[test]
fn story_5_an_unseen_anonymous_id_belongs_to_the_user() {
    let account = History::default().identify("u1", "n").view("n").account();
    assert_eq!(mapped(&account), [("n", id("u1")), ("u1", id("u1"))]);
    assert_eq!(
        (account.persons, account.merges, account.people[&id("u1")].events),
        (1, 0, 2)
    );
}

#[test]
fn story_6_a_late_replay_changes_nothing_newer() {
    let history = History::default()
        .event("d", json!({"$set": {"plan": "free", "tmp": 1}}))
        .event("d", json!({"plan": "pro"}))
        .event("d", json!({"$unset": ["tmp"]}))
        .identify("u1", "d")
        .in_order(&[1, 2, 3, 0, 0]);
    let account = history.account();
    assert_eq!(mapped(&account), [("d", id("u1")), ("u1", id("u1"))]);
    assert_eq!(
        json!(account.people[&id("u1")].properties),
        json!({"plan": "pro"})
    );
    assert_eq!((account.events, account.persons), (4, 1));
}

#[test]
fn an_illegal_anonymous_id_joins_nobody() {
    let history = History::default()
        .view("a")
        .identify("u1", " NULL ")
        .identify("u2", " NULL ")
        .identify("u1", "u1")
        .identify("u1", &"я".repeat(401))
        .identify("u1", "");
    let account = history.account();
    assert_eq!(
        mapped(&account),
        [("a", id("a")), ("u1", id("u1")), ("u2", id("u2"))]
    );
    assert_eq!(account.unusable_anonymous_ids, 4);
}

#[test]
fn a_second_device_joins_the_same_user() {
    let history = History::default()
        .event("phone", json!({"on": "phone"}))
        .event("laptop", json!({"at": "home"}))
        .identify("u1", "phone")
        .identify("u1", "laptop");
    let account = history.account();
    assert_eq!(
        mapped(&account),
        [("laptop", id("u1")), ("phone", id("u1")), ("u1", id("u1"))]
    );
    assert_eq!(
        json!(account.people[&id("u1")].properties),
        json!({"on": "phone", "at": "home"})
    );
    assert!(account.merges == 2 && account.contested_keys.is_empty());
}

#[test]
fn a_value_on_both_sides_of_a_merge_is_reported() {
    let history = History::default()
        .event("a", json!({"k": 1}))
        .event("u", json!({"k": 2}))
        .identify("u", "a");
    assert_eq!(
        history.account().contested_keys.into_iter().collect::<Vec<_>>(),
        ["k"]
    );
}

/// An event by one of a few ids, an identification, or a change of one of a few properties.
fn any_event() -> impl Strategy<Value = (u8, u8, u8, u8)> {
    (0..5u8, 0..6u8, 0..6u8, 0..3u8)
}

fn history_of(events: &[(u8, u8, u8, u8)]) -> History {
    events
        .iter()
        .fold(History::default(), |history, (what, who, whom, key)| {
            let (who, whom, key) = (format!("id{who}"), format!("id{whom}"), format!("k{key}"));
            match what {
                0 | 1 => history.identify(&who, &whom),
                2 => history.event(&who, json!({"$unset": [key]})),
                3 => history.event(&who, json!({"$set_once": {key: 1}})),
                _ => history.event(&who, json!({key: who})),
            }
        })
}

proptest! {
    #[test]
    fn counts_agree_and_no_two_identified_users_become_one(events in prop::collection::vec(any_event(), 1..40)) {
        let history = history_of(&events);
        let account = history.account();
        prop_assert_eq!(account.events, events.len());
        prop_assert_eq!(account.people.values().map(|person| person.events).sum::<usize>(), account.events);
        let persons: std::collections::BTreeSet<_> = account.mappings.values().collect();
        prop_assert_eq!(persons.into_iter().collect::<Vec<_>>(), account.people.keys().collect::<Vec<_>>());
        let identifies = history.0.iter().filter(|line| line.text("event_name") == "$identify");
        let users: std::collections::BTreeSet<_> = identifies.map(|line| line.text("distinct_id")).collect();
        for (a, b) in users.iter().flat_map(|a| users.iter().map(move |b| (a, b))).filter(|(a, b)| a < b) {
            // Identified later than joined is the one way to share a person: the anonymous id was used to log in.
            if account.mappings[*a] == account.mappings[*b] {
                prop_assert!(joined_before_both_were_identified(&history, a, b), "{} and {}", a, b);
            }
        }
    }

    #[test]
    fn delivering_any_event_again_at_the_end_changes_nothing(
        events in prop::collection::vec(any_event(), 1..30),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let once = history_of(&events);
        let twice = again.iter().fold(history_of(&events), |history, index| history.again(index.index(events.len())));
        let (once, twice) = (once.account(), twice.account());
        // An identification that was refused is refused again, and one that joined has nothing left to join.
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn properties_do_not_depend_on_the_order_of_delivery(
        events in prop::collection::vec((2..5u8, 0..1u8, 0..1u8, 0..3u8), 1..12).prop_shuffle(),
        order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let order: Vec<_> = order.into_iter().filter(|index| *index < events.len()).collect();
        let account = history_of(&events).account();
        prop_assert_eq!(account.people, history_of(&events).in_order(&order).account().people);
    }

    #[test]
    fn any_seed_and_count_gives_that_many_lines_without_contested_keys(seed: u64, count in 0..400usize) {
        let lines = generate(seed, count);
        prop_assert_eq!(lines.len(), count);
        prop_assert!(account(&lines).projects.values().all(|project| project.contested_keys.is_empty()));
    }
}

/// Whether some prefix of the history has both ids with one person while at most one of them was identified.
fn joined_before_both_were_identified(history: &History, a: &str, b: &str) -> bool {
    (1..=history.0.len()).any(|end| {
        let prefix = History(history.0[..end].to_vec());
        let account = prefix.account();
        let is_joined = account
            .mappings
            .get(a)
            .is_some_and(|person| account.mappings.get(b) == Some(person));
        let identified = |id| {
            prefix
                .0
                .iter()
                .any(|line| line.text("event_name") == "$identify" && line.text("distinct_id") == id)
        };
        is_joined && !(identified(a) && identified(b))
    })
}
