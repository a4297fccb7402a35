//! What a cohort's definition says.

use uuid::Uuid;

/// Conditions of one definition, at most.
pub(crate) const MOST_CONDITIONS: usize = 50;
/// Groups inside each other, at most; a flat group has depth 1.
pub(crate) const DEEPEST: usize = 4;
/// Steps of one sequence, at most.
pub(crate) const MOST_STEPS: usize = 50;
/// Longest window, days.
pub(crate) const LONGEST_WINDOW: u32 = 36_500;

/// A cohort's definition, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Everything is in one group.
    pub root: Group,
}

impl Definition {
    /// Ids of the cohorts that it refers to, in order of appearance, repeated ones once.
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

/// How the members of a group's parts come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conjunction {
    /// Members of every part.
    And,
    /// Members of any part.
    Or,
}

/// Parts and how they come together. Without parts, nobody is a member.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// How.
    pub conjunction: Conjunction,
    /// What.
    pub nodes: Vec<Node>,
}

/// A part of a group.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A group in a group.
    Group(Group),
    /// Membership of another cohort.
    Cohort {
        /// Its id.
        id: Uuid,
        /// Whether those are meant who are no members of it.
        negated: bool,
    },
    /// A condition on the person's events.
    Condition(Condition),
}

/// Where a property is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// A column of `events`.
    Column(&'static str),
    /// A key of `properties`.
    Event(String),
    /// A key of `user_properties`.
    User(String),
    /// A bare name: of an event, the key of `properties` where it is there, else of `user_properties`; of a person, the
    /// key of `user_properties`.
    Bare(String),
}

/// How two numbers compare.
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

/// What a value has to satisfy. Times are milliseconds since 1970, UTC; `None` is one that nobody can read.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the operators of the contract, by their names")]
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
    /// Whether somebody satisfies it of whom there is no value.
    pub(crate) fn holds_without_value(&self) -> bool {
        matches!(
            self,
            Self::NotContainsMulti(_) | Self::IsNotSet | Self::NotRegex(_) | Self::NotIn(_)
        )
    }
}

/// A property and what its value has to satisfy.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertyPredicate {
    /// Which property.
    pub property: Property,
    /// What about it.
    pub predicate: Predicate,
}

/// Which events count: by name, and all filters hold for one and the same event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventMatch {
    /// Its name.
    pub name: String,
    /// What its properties have to satisfy.
    pub filters: Vec<PropertyPredicate>,
}

/// What is computed of a property of the matching events.
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

/// Stretches of time that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// UTC days.
    Day,
    /// ISO weeks, from Monday.
    Week,
    /// Months.
    Month,
}

/// Who is meant. Windows are days of 24 hours up to now.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "the conditions and fields of the contract, by their names"
)]
pub enum Condition {
    PersonProperty(PropertyPredicate),
    /// So many matching events.
    Count {
        event: EventMatch,
        window: u32,
        comparison: Comparison,
        count: f64,
    },
    /// Something computed of matching events.
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
