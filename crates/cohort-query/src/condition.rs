//! One condition over one pass: which rows it needs, and the SQL that says when a person is a member.

use std::collections::BTreeSet;

use crate::definition::{Aggregation, Comparison, Condition, EventMatch, Period, Property};
use crate::parameters::Value;
use crate::pass::Pass;
use crate::{moment, predicate, property};

/// Which rows a pass reads, of those up to now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All rows: a person without any matching event may be a member.
    All,
    /// Rows of events that may carry this property.
    Carrying(Property),
    /// Rows of events with these names, within a window of days if there is one.
    Events {
        names: BTreeSet<String>,
        window: Option<u32>,
    },
}

impl Scope {
    fn events<'a>(events: impl IntoIterator<Item = &'a EventMatch>, window: Option<u32>) -> Self {
        Self::Events {
            names: events.into_iter().map(|event| event.name.clone()).collect(),
            window,
        }
    }

    /// The rows that a condition needs. Every member has at least one of them.
    pub(crate) fn of(condition: &Condition) -> Self {
        match condition {
            Condition::Count {
                event,
                window,
                comparison,
                count,
            } => {
                let none_will_do = match comparison {
                    Comparison::Gt => 0.0 > *count,
                    Comparison::Gte => 0.0 >= *count,
                    Comparison::Lt => 0.0 < *count,
                    Comparison::Lte => 0.0 <= *count,
                    Comparison::Eq => *count == 0.0,
                };
                if none_will_do {
                    Self::All
                } else {
                    Self::events([event], Some(*window))
                }
            }
            Condition::Aggregate { event, window, .. } | Condition::Regularly { event, window, .. } => {
                Self::events([event], Some(*window))
            }
            Condition::FirstTime { event, .. } => Self::events([event], None),
            Condition::Stopped {
                event, historical, ..
            }
            | Condition::Restarted {
                event, historical, ..
            } => Self::events([event], Some(*historical)),
            Condition::Sequence {
                steps,
                window,
                negated: false,
            } => Self::events(steps, Some(*window)),
            // A person without an event that carries the property has no value, and is no member.
            Condition::PersonProperty(property) if !property.predicate.holds_without_value() => {
                Self::Carrying(property.property.clone())
            }
            Condition::Sequence { negated: true, .. }
            | Condition::PersonProperty(_)
            | Condition::NotPerformed { .. } => Self::All,
        }
    }

    /// The rows of both scopes, if reading them in one pass costs no more than in two.
    pub(crate) fn with(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::All, Self::All) => Some(Self::All),
            (Self::Carrying(property), Self::Carrying(other)) if property == other => Some(self.clone()),
            (
                Self::Events { names, window },
                Self::Events {
                    names: others,
                    window: longer,
                },
            ) if names == others => Some(Self::Events {
                names: names.clone(),
                window: window.zip(*longer).map(|(one, two)| one.max(two)),
            }),
            _ => None,
        }
    }
}

/// A pass with its scope. The SQL of its conditions holds for exactly these rows.
pub(crate) struct Scoped<'a, 'b> {
    pub(crate) pass: &'a mut Pass<'b>,
    pub(crate) scope: &'a Scope,
    /// Now, in milliseconds since 1970.
    pub(crate) now: i64,
}

impl Scoped<'_, '_> {
    /// Restricts the pass to the rows in scope.
    pub(crate) fn restrict(&mut self) {
        let (names, window) = match self.scope {
            Scope::All => return,
            Scope::Carrying(property) => {
                let carrying = property::may_carry(property, self.pass);
                self.pass.only(carrying);
                return;
            }
            Scope::Events { names, window } => (names, window),
        };
        let names: Vec<String> = names.iter().cloned().collect();
        let by_name = match names.as_slice() {
            [name] => format!("event_name = {}", self.pass.parameters.text(name)),
            names => format!("event_name IN {}", self.pass.parameters.texts(names)),
        };
        self.pass.only(by_name);
        if let Some(days) = window {
            let since = format!("timestamp >= {}", self.days_ago(*days));
            self.pass.only(since);
        }
    }

    /// The SQL that says whether a person is a member. What a condition says of events is said by a function of its own.
    pub(crate) fn members(&mut self, condition: &Condition) -> String {
        match condition {
            Condition::PersonProperty(property) => property::of_person(property, self.pass),
            Condition::Count {
                event,
                window,
                comparison,
                count,
            } => self.so_many(event, *window, *comparison, *count),
            Condition::Aggregate {
                event,
                window,
                aggregation,
                property,
                comparison,
                value,
            } => {
                let numbers = self.numbers(event, *window, property);
                self.so_much(&numbers, *aggregation, *comparison, *value)
            }
            Condition::FirstTime { event, window } => self.first_time(event, *window),
            Condition::NotPerformed { event, window } => self.never(event, *window),
            Condition::Sequence {
                steps,
                window,
                negated,
            } => self.sequence(steps, *window, *negated),
            Condition::Regularly {
                event,
                window,
                period,
                min_periods,
            } => self.regularly(event, *window, *period, *min_periods),
            Condition::Stopped {
                event,
                recent,
                historical,
            } => self.stopped(event, *recent, *historical),
            Condition::Restarted {
                event,
                recent,
                gap,
                historical,
            } => self.restarted(event, *recent, *gap, *historical),
        }
    }

    /// Compares the number of matching events with `count`. A row that is there twice counts as one event; where the
    /// question is only whether there is any event, rows are counted, which is cheaper.
    fn so_many(&mut self, event: &EventMatch, window: u32, comparison: Comparison, count: f64) -> String {
        let matching = self.matching(event, Some(window));
        let number = if comparison == Comparison::Gte && count <= 1.0 {
            self.count(&matching)
        } else {
            self.aggregate("uniqExact", "event_id", &matching)
        };
        let (operator, count) = (
            predicate::operator(comparison),
            self.pass.parameters.number(count),
        );
        format!("{number} {operator} {count}")
    }

    /// Compares what is computed from numbers with `value`. Without any number there is nothing to compare.
    fn so_much(
        &mut self,
        numbers: &str,
        aggregation: Aggregation,
        comparison: Comparison,
        value: f64,
    ) -> String {
        let function = function(aggregation);
        format!(
            "(notEmpty({numbers}) AND arrayReduce('{function}', {numbers}) {} {})",
            predicate::operator(comparison),
            self.pass.parameters.number(value)
        )
    }

    /// The numbers that a property has in matching events, ordered by event id.
    fn numbers(&mut self, event: &EventMatch, window: u32, property: &Property) -> String {
        let number = property::number_of_event(property, self.pass);
        let mut matching = self.matching(event, Some(window));
        matching.push(format!("{number} IS NOT NULL"));
        // Event id and the bits of the number as one integer: a row that is there twice counts once, and numbers are added
        // in the order of the ids.
        let event = format!(
            "bitShiftLeft(toUInt256(toUInt128(event_id)), 64) + reinterpretAsUInt64(assumeNotNull({number}))"
        );
        let numbers = self.aggregate("groupUniqArray", &event, &matching);
        self.pass.aggregate(format!(
            "arrayMap(event -> reinterpretAsFloat64(toUInt64(event)), arraySort({numbers}))"
        ))
    }

    fn first_time(&mut self, event: &EventMatch, window: u32) -> String {
        let since = self.days_ago(window);
        let (mut before, mut within) = (self.matching(event, None), self.matching(event, None));
        before.push(format!("timestamp < {since}"));
        within.push(format!("timestamp >= {since}"));
        let (before, within) = (self.count(&before), self.count(&within));
        format!("({before} = 0 AND {within} > 0)")
    }

    fn never(&mut self, event: &EventMatch, window: u32) -> String {
        let matching = self.matching(event, Some(window));
        format!("{} = 0", self.count(&matching))
    }

    fn regularly(&mut self, event: &EventMatch, window: u32, period: Period, min_periods: u32) -> String {
        let periods = self.periods(event, window, period);
        let least = self.pass.parameters.number(f64::from(min_periods));
        format!("{periods} >= {least}")
    }

    /// The number of periods with matching events.
    fn periods(&mut self, event: &EventMatch, window: u32, period: Period) -> String {
        let matching = self.matching(event, Some(window));
        let period = match period {
            Period::Day => "toDate(timestamp)",
            Period::Week => "toMonday(timestamp)",
            Period::Month => "toStartOfMonth(timestamp)",
        };
        self.aggregate("uniqExact", period, &matching)
    }

    fn sequence(&mut self, steps: &[EventMatch], window: u32, negated: bool) -> String {
        let sign = if negated { "<" } else { "=" };
        format!("{} {sign} {}", self.steps_done(steps, window), steps.len())
    }

    /// The number of steps of a sequence that a person has taken. Events are taken in their order; each one serves the next
    /// step if it matches that step.
    fn steps_done(&mut self, steps: &[EventMatch], window: u32) -> String {
        let mut bits = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let mut matching = vec![format!("event_name = {}", self.pass.parameters.text(&step.name))];
            matching.extend(
                step.filters
                    .iter()
                    .map(|filter| property::of_event(filter, self.pass)),
            );
            bits.push(format!("if({}, {}, 0)", matching.join(" AND "), 1u64 << index));
        }
        let serves = self.pass.column(format!("toUInt64({})", bits.join(" + ")));
        let mut matching = vec![format!("{serves} != 0")];
        matching.extend(self.since(window));
        // The event's place and, in the low bits, the steps that it matches: one integer is far cheaper than a tuple.
        let event = format!("bitShiftLeft({}, 64) + {serves}", property::PLACE);
        let events = self.aggregate("groupUniqArray", &event, &matching);
        self.pass.aggregate(format!(
            "arrayFold((done, event) -> toUInt8(done + bitTest(toUInt64(event), done)), arraySort({events}), toUInt8(0))"
        ))
    }

    fn stopped(&mut self, event: &EventMatch, recent: u32, historical: u32) -> String {
        let earlier = self.between(event, Some(historical), Some(recent));
        let recently = self.between(event, Some(recent), None);
        format!("({earlier} > 0 AND {recently} = 0)")
    }

    fn restarted(&mut self, event: &EventMatch, recent: u32, gap: u32, historical: u32) -> String {
        let earlier = self.between(event, Some(historical), Some(recent + gap));
        let in_gap = self.between(event, Some(recent + gap), Some(recent));
        let recently = self.between(event, Some(recent), None);
        format!("({earlier} > 0 AND {in_gap} = 0 AND {recently} > 0)")
    }

    /// The number of matching events from `from` days ago until before `until` days ago.
    fn between(&mut self, event: &EventMatch, from: Option<u32>, until: Option<u32>) -> String {
        let mut matching = self.matching(event, from);
        if let Some(days) = until {
            matching.push(format!("timestamp < {}", self.days_ago(days)));
        }
        self.count(&matching)
    }

    /// The conditions that make a row in scope a matching event.
    fn matching(&mut self, event: &EventMatch, window: Option<u32>) -> Vec<String> {
        let mut matching = Vec::new();
        let by_name = matches!(self.scope, Scope::Events { names, .. } if names.len() == 1);
        if !by_name {
            matching.push(format!("event_name = {}", self.pass.parameters.text(&event.name)));
        }
        if let Some(days) = window {
            matching.extend(self.since(days));
        }
        matching.extend(
            event
                .filters
                .iter()
                .map(|filter| property::of_event(filter, self.pass)),
        );
        matching
    }

    fn since(&mut self, days: u32) -> Option<String> {
        let in_scope = matches!(self.scope, Scope::Events { window: Some(window), .. } if *window == days);
        (!in_scope).then(|| format!("timestamp >= {}", self.days_ago(days)))
    }

    fn days_ago(&mut self, days: u32) -> String {
        let moment = Value::Moment(moment::days_before(self.now, days));
        let moment = self.pass.parameters.bind_as(&format!("days_ago_{days}"), moment);
        moment_sql(&moment)
    }

    fn count(&mut self, matching: &[String]) -> String {
        self.aggregate("count", "", matching)
    }

    fn aggregate(&mut self, function: &str, argument: &str, matching: &[String]) -> String {
        let separator = if argument.is_empty() { "" } else { ", " };
        let expression = match matching {
            [] => format!("{function}({argument})"),
            matching => format!("{function}If({argument}{separator}{})", matching.join(" AND ")),
        };
        self.pass.aggregate(expression)
    }
}

/// The engine's aggregate function for an aggregation.
fn function(aggregation: Aggregation) -> String {
    match aggregation {
        Aggregation::Sum => "sum".to_owned(),
        Aggregation::Avg => "avg".to_owned(),
        Aggregation::Min => "min".to_owned(),
        Aggregation::Max => "max".to_owned(),
        Aggregation::Quantile(percent) => format!("quantileExactInclusive({})", f64::from(percent) / 100.0),
    }
}

/// The SQL that makes a time of a parameter in milliseconds.
pub(crate) fn moment_sql(parameter: &str) -> String {
    format!("fromUnixTimestamp64Milli({parameter}, 'UTC')")
}
