//! What the screen shows: what each store told last, what came before it, and which keys were pressed. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::super::facts::{ClickHouseFacts, Level, Look, PostgresFacts, RedisFacts, StoreState, Verdict};
use super::super::history::{History, Sample};
use super::super::tables::Settings;
use super::super::verdict;

/// What one store told when it last answered, and whether it answers now.
#[derive(Debug)]
pub(super) struct Seen<F> {
    pub(super) facts: F,
    /// When they were told; nothing before the first time.
    pub(super) at: Option<Timestamp>,
    pub(super) store: StoreState,
    pub(super) errors: Vec<String>,
    /// Since when it has not answered.
    pub(super) silent_since: Option<Timestamp>,
    asked: bool,
}

impl<F> Seen<F> {
    /// Nobody has been asked yet.
    pub(super) fn new(nothing: Look<F>) -> Self {
        Self {
            facts: nothing.facts,
            at: None,
            store: nothing.store,
            errors: Vec::new(),
            silent_since: None,
            asked: false,
        }
    }

    /// What a store that does not answer said before is still the best that is known.
    fn take(&mut self, look: Look<F>) {
        self.asked = true;
        self.store = look.store;
        self.errors = look.errors;
        if self.store.reachable {
            self.facts = look.facts;
            self.at = Some(look.at);
            self.silent_since = None;
        } else {
            self.silent_since = self.silent_since.or(Some(look.at));
        }
    }

    /// How long ago the facts were told, once that is longer than it takes to ask.
    pub(super) fn age(&self, now: Timestamp) -> Option<u64> {
        let at = self.at?;
        let seconds = now.duration_since(at).as_secs().max(0).cast_unsigned();
        (self.silent_since.is_some() || seconds > OLD_S).then_some(seconds)
    }

    /// How long it has not answered.
    pub(super) fn silent_for(&self, now: Timestamp) -> Option<u64> {
        let since = now.duration_since(self.silent_since?);
        Some(since.as_secs().max(0).cast_unsigned())
    }
}

/// What was told before so many seconds is old.
const OLD_S: u64 = 5;

/// What a store told.
#[derive(Debug)]
pub(super) enum Told {
    Redis(Look<RedisFacts>),
    Postgres(Look<PostgresFacts>),
    ClickHouse(Look<ClickHouseFacts>),
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Streams,
    Instances,
    Stores,
    Letters,
    Cohorts,
}

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Look(View),
    /// Lines down, or up.
    Scroll(i32),
    Redraw,
    Leave,
}

/// Everything that the screen shows.
#[derive(Debug)]
pub(in crate::cli::status) struct Model {
    pub(super) redis: Seen<RedisFacts>,
    pub(super) postgres: Seen<PostgresFacts>,
    pub(super) clickhouse: Seen<ClickHouseFacts>,
    pub(super) history: History,
    pub(super) settings: Settings,
    pub(super) view: View,
    /// Lines of a view that are above the screen.
    pub(super) above: usize,
}

impl Model {
    pub(in crate::cli::status) fn new(
        redis: Look<RedisFacts>,
        postgres: Look<PostgresFacts>,
        clickhouse: Look<ClickHouseFacts>,
        settings: Settings,
    ) -> Self {
        Self {
            redis: Seen::new(redis),
            postgres: Seen::new(postgres),
            clickhouse: Seen::new(clickhouse),
            history: History::default(),
            settings,
            view: View::Overview,
            above: 0,
        }
    }

    /// A store has told something, `after` the beginning.
    pub(super) fn take(&mut self, told: Told, after: Duration) {
        match told {
            Told::Redis(look) => {
                if look.store.reachable {
                    self.history.add(Sample::of(after, &look.facts.streams));
                }
                self.redis.take(look);
            }
            Told::Postgres(look) => self.postgres.take(look),
            Told::ClickHouse(look) => self.clickhouse.take(look),
        }
    }

    /// Somebody wants to look at something else.
    pub(super) fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Look(view) => {
                self.view = if self.view == view { View::Overview } else { view };
                self.above = 0;
            }
            Wish::Scroll(lines) => self.above = self.above.saturating_add_signed(lines as isize),
            Wish::Redraw | Wish::Leave => {}
        }
    }

    pub(super) fn stores(&self) -> [&StoreState; 3] {
        [&self.redis.store, &self.postgres.store, &self.clickhouse.store]
    }

    /// Whether it keeps up. Nobody knows before every store has been asked.
    pub(super) fn verdict(&self) -> Verdict {
        if !(self.redis.asked && self.postgres.asked && self.clickhouse.asked) {
            return Verdict {
                level: Level::Look,
                answer: "asking",
                because: "not every store has answered yet".into(),
            };
        }
        verdict::of(&self.redis.facts, self.stores(), self.history.trend())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::samples::{consuming, everything, model, store, told};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_a_silent_store_said_before_is_kept_and_shown_as_old() {
        let mut model = model();
        assert_eq!(model.verdict().answer, "asking");
        for (second, reachable) in [(100, true), (101, false), (103, false)] {
            let mut look = told(
                "Redis",
                reachable,
                everything(7, 0, vec![consuming("a")]),
                at(second),
            );
            if !reachable {
                look.facts = RedisFacts::default();
            }
            model.take(Told::Redis(look), Duration::from_secs(second.cast_unsigned()));
        }
        assert_eq!(model.redis.facts.streams[0].lag, Some(7));
        assert_eq!(model.redis.age(at(110)), Some(10));
        assert_eq!(model.redis.silent_for(at(110)), Some(9));
        assert_eq!(model.history.levels(|sample| sample.unread), [Some(7)]);
        let look = told("Redis", true, everything(0, 0, Vec::new()), at(120));
        model.take(Told::Redis(look), Duration::from_mins(2));
        assert_eq!(
            (model.redis.age(at(121)), model.redis.silent_for(at(121))),
            (None, None)
        );
        assert_eq!(
            model.redis.age(at(126)),
            Some(6),
            "whatever keeps it from being asked"
        );
        assert_eq!(model.redis.store.at, store("Redis", true).at);
    }

    #[test]
    fn a_key_opens_a_view_and_closes_it_again() {
        let mut model = model();
        model.wish(Wish::Look(View::Stores));
        model.wish(Wish::Scroll(5));
        model.wish(Wish::Scroll(-2));
        assert_eq!((model.view, model.above), (View::Stores, 3));
        model.wish(Wish::Scroll(-9));
        assert_eq!(model.above, 0);
        model.wish(Wish::Look(View::Stores));
        assert_eq!(model.view, View::Overview);
        model.wish(Wish::Look(View::Overview));
        assert_eq!(model.view, View::Overview);
    }
}
