//! A cohort's definition, checked. What it may say is in docs/contract.md, "Cohorts".

use uuid::Uuid;

/// Most conditions of one definition.
pub(crate) const MOST_CONDITIONS: usize = 50;
/// Deepest nesting of groups; a flat group has depth 1.
pub(crate) const DEEPEST: usize = 4;
/// Most steps of one sequence.
pub(crate) const MOST_STEPS: usize = 50;
/// Longest window in days.
pub(crate) const LONGEST_WINDOW: u32 = 36_500;

/// A cohort's definition, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The group that holds everything.
    pub root: Group,
}

impl Definition {
    /// Ids of the cohorts that it refers to, in order of appearance, each once.
    pub fn references(&self) -> Vec<Uuid> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        found
    }
}

fn collect(group: &Group, found: &mut Vec<Uuid>) {
    for node in &group.nodes {
        match node {
            Node::Group(group) => collect(group, found),
            Node::Cohort { id, .. } if !found.contains(id) => found.push(*id),
            Node::Cohort { .. } | Node::Condition(_) => {}
        }
    }
}

/// How the members of a group follow from those of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conjunction {
    /// Persons that are members of every part.
    And,
    /// Persons that are members of at least one part.
    Or,
}

/// Conditions and groups under AND or OR. A group without parts has no members.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Whether members belong to every part or to any.
    pub conjunction: Conjunction,
    /// The parts, in the order of the definition.
    pub nodes: Vec<Node>,
}

/// A part of a group.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A group in a group.
    Group(Group),
    /// Membership of another cohort.
    Cohort {
        /// The id of that cohort.
        id: Uuid,
        /// Whether the condition holds for known persons that are not its members.
        negated: bool,
    },
    /// A condition on the person's events.
    Condition(Condition),
}

/// Where the value of a property is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// A column of `events`.
    Column(&'static str),
    /// A key of `properties`.
    Event(String),
    /// A key of `user_properties`.
    User(String),
    /// A bare name in a filter of events: a key of `properties` or, where the event has none, of `user_properties`.
    Bare(String),
}

/// A comparison of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Greater.
    Gt,
    /// Less.
    Lt,
    /// Greater or equal.
    Gte,
    /// Less or equal.
    Lte,
    /// Equal.
    Eq,
}

/// What a value has to satisfy ("Operators" in docs/contract.md). Times are milliseconds since 1970, UTC; `None` stands for
/// a text that is no time.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the operators of docs/contract.md by their names")]
pub enum Predicate {
    Eq(String),
    Neq(String),
    Contains(String),
    NotContains(String),
    ContainsMulti(Vec<String>),
    NotContainsMulti(Vec<String>),
    IsSet,
    IsNotSet,
    Compare(Comparison, f64),
    Between(f64, f64),
    NotBetween(f64, f64),
    Regex(String),
    NotRegex(String),
    In(Vec<String>),
    NotIn(Vec<String>),
    DateBefore(Option<i64>),
    DateAfter(Option<i64>),
    DateExact(Option<i64>),
}

impl Predicate {
    /// Whether a person without a value satisfies it.
    pub(crate) fn holds_without_value(&self) -> bool {
        matches!(
            self,
            Self::NotContainsMulti(_) | Self::IsNotSet | Self::NotRegex(_) | Self::NotIn(_)
        )
    }
}

/// A property and the predicate that its value has to satisfy.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertyPredicate {
    /// The property whose value is tested.
    pub property: Property,
    /// What the value has to satisfy.
    pub predicate: Predicate,
}

/// Which events match: those with the name for which all filters hold.
#[derive(Debug, Clone, PartialEq)]
pub struct EventMatch {
    /// The name that a matching event has.
    pub name: String,
    /// What the properties of a matching event have to satisfy.
    pub filters: Vec<PropertyPredicate>,
}

/// What is computed from the numbers that a property has in the matching events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Sum.
    Sum,
    /// Mean.
    Avg,
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// Quantile in percent, interpolated linearly.
    Quantile(u8),
}

/// The periods that `performed_regularly` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// UTC days.
    Day,
    /// ISO weeks, beginning on Monday.
    Week,
    /// Calendar months, UTC.
    Month,
}

/// A condition on a person's events ("Conditions" in docs/contract.md). Windows are days of 24 hours up to now.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "the conditions and fields of docs/contract.md by their names"
)]
pub enum Condition {
    PersonProperty(PropertyPredicate),
    /// An `event` condition on the number of matching events.
    Count {
        event: EventMatch,
        window: u32,
        comparison: Comparison,
        count: f64,
    },
    /// An `event` condition on an aggregate over the matching events.
    Aggregate {
        event: EventMatch,
        window: u32,
        aggregation: Aggregation,
        property: Property,
        comparison: Comparison,
        value: f64,
    },
    FirstTime {
        event: EventMatch,
        window: u32,
    },
    NotPerformed {
        event: EventMatch,
        window: u32,
    },
    Sequence {
        steps: Vec<EventMatch>,
        window: u32,
        negated: bool,
    },
    Regularly {
        event: EventMatch,
        window: u32,
        period: Period,
        min_periods: u32,
    },
    Stopped {
        event: EventMatch,
        recent: u32,
        historical: u32,
    },
    Restarted {
        event: EventMatch,
        recent: u32,
        gap: u32,
        historical: u32,
    },
}
