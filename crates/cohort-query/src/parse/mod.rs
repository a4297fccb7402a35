//! Reads and checks a [`Definition`] from JSON. Each error names the place in the definition.

mod object;

use serde_json::Value;

use crate::definition::{
    Aggregation, Comparison, Condition, Conjunction, DEEPEST, Definition, EventMatch, Group, MOST_CONDITIONS,
    MOST_STEPS, Node, Period, Predicate, Property, PropertyPredicate,
};
use crate::{moment, number, words};

pub use object::DefinitionError;
use object::{Object, Result};

impl Definition {
    /// Reads and checks a definition.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(json: &Value) -> Result<Self> {
        let mut reader = Reader { conditions: 0 };
        Ok(Self {
            root: reader.group(&Object::of("", json)?, 1)?,
        })
    }
}

struct Reader {
    conditions: usize,
}

impl Reader {
    fn group(&mut self, object: &Object<'_>, depth: usize) -> Result<Group> {
        let conjunction = match object.text("type")? {
            "AND" => Conjunction::And,
            "OR" => Conjunction::Or,
            other => return Err(object.unknown("type", ("group type", other), &words::GROUPS)),
        };
        if depth > DEEPEST {
            return Err(object.error("type", format!("groups are nested deeper than {DEEPEST}")));
        }
        let nodes = object.objects("values")?.map(|member| self.node(&member?, depth));
        Ok(Group {
            conjunction,
            nodes: nodes.collect::<Result<_>>()?,
        })
    }

    fn node(&mut self, object: &Object<'_>, depth: usize) -> Result<Node> {
        let kind = object.text("type")?;
        if matches!(kind, "AND" | "OR") {
            return self.group(object, depth + 1).map(Node::Group);
        }
        self.conditions += 1;
        if self.conditions > MOST_CONDITIONS {
            return Err(object.error("type", format!("more than {MOST_CONDITIONS} conditions")));
        }
        if kind == "cohort" {
            return Ok(Node::Cohort {
                id: object.uuid("cohort_id")?,
                negated: object.flag("negated")?,
            });
        }
        condition(object, kind).map(Node::Condition)
    }
}

fn condition(object: &Object<'_>, kind: &str) -> Result<Condition> {
    let window = || object.days("time_window_days");
    Ok(match kind {
        "person_property" => Condition::PersonProperty(property_predicate(object, Whose::Person)?),
        "event" => of_events(object)?,
        "first_time_event" => Condition::FirstTime {
            event: event_match(object)?,
            window: window()?,
        },
        "not_performed_event" => Condition::NotPerformed {
            event: event_match(object)?,
            window: window()?,
        },
        "event_sequence" | "not_performed_event_sequence" => Condition::Sequence {
            steps: steps(object)?,
            window: window()?,
            negated: kind == "not_performed_event_sequence",
        },
        "performed_regularly" => {
            object.whole("total_periods")?;
            Condition::Regularly {
                event: event_match(object)?,
                window: window()?,
                period: match object.text("period_type")? {
                    "day" => Period::Day,
                    "week" => Period::Week,
                    "month" => Period::Month,
                    other => return Err(object.unknown("period_type", ("period", other), &words::PERIODS)),
                },
                min_periods: object.whole("min_periods")?,
            }
        }
        "stopped_performing" => {
            let (recent, historical) = (
                object.days("recent_window_days")?,
                object.days("historical_window_days")?,
            );
            if historical <= recent {
                let problem = "must be larger than recent_window_days";
                return Err(object.error("historical_window_days", problem));
            }
            Condition::Stopped {
                event: event_match(object)?,
                recent,
                historical,
            }
        }
        "restarted_performing" => {
            let (recent, gap) = (
                object.days("recent_window_days")?,
                object.days("gap_window_days")?,
            );
            let historical = object.days("historical_window_days")?;
            if historical <= recent + gap {
                let problem = "must be larger than recent_window_days and gap_window_days together";
                return Err(object.error("historical_window_days", problem));
            }
            Condition::Restarted {
                event: event_match(object)?,
                recent,
                gap,
                historical,
            }
        }
        other => return Err(object.unknown("type", ("condition type", other), &words::types())),
    })
}

fn of_events(object: &Object<'_>) -> Result<Condition> {
    let event = event_match(object)?;
    let window = object.days("time_window_days")?;
    let comparison = match object.text("count_operator")? {
        "gte" => Comparison::Gte,
        "lte" => Comparison::Lte,
        "eq" => Comparison::Eq,
        other => return Err(object.unknown("count_operator", ("operator", other), &words::COUNT_OPERATORS)),
    };
    let count = object.number("count")?;
    let aggregation = match object.optional_text("aggregation_type")?.unwrap_or("count") {
        "count" => {
            return Ok(Condition::Count {
                event,
                window,
                comparison,
                count,
            });
        }
        "sum" => Aggregation::Sum,
        "avg" => Aggregation::Avg,
        "min" => Aggregation::Min,
        "max" => Aggregation::Max,
        "median" => Aggregation::Quantile(50),
        "p75" => Aggregation::Quantile(75),
        "p90" => Aggregation::Quantile(90),
        "p95" => Aggregation::Quantile(95),
        "p99" => Aggregation::Quantile(99),
        other => {
            return Err(object.unknown("aggregation_type", ("aggregation", other), &words::AGGREGATIONS));
        }
    };
    Ok(Condition::Aggregate {
        event,
        window,
        aggregation,
        property: property(object, "aggregation_property", Whose::Event)?,
        comparison,
        value: count,
    })
}

fn event_match(object: &Object<'_>) -> Result<EventMatch> {
    let name = object.text("event_name")?.to_owned();
    let filters = match object.present("event_filters") {
        None => Vec::new(),
        Some(_) => object
            .objects("event_filters")?
            .map(|filter| property_predicate(&filter?, Whose::Event))
            .collect::<Result<_>>()?,
    };
    Ok(EventMatch { name, filters })
}

fn steps(object: &Object<'_>) -> Result<Vec<EventMatch>> {
    let steps: Vec<EventMatch> = object
        .objects("steps")?
        .map(|step| event_match(&step?))
        .collect::<Result<_>>()?;
    match steps.len() {
        0 => Err(object.error("steps", "a sequence has at least one step")),
        1..=MOST_STEPS => Ok(steps),
        _ => Err(object.error("steps", format!("more than {MOST_STEPS} steps"))),
    }
}

/// Whether a bare name is a property of the person or of the event.
#[derive(Clone, Copy)]
enum Whose {
    Person,
    Event,
}

/// Names of properties that are columns of `events`.
const COLUMNS: [&str; 9] = [
    "country",
    "region",
    "city",
    "device_type",
    "browser",
    "browser_version",
    "os",
    "os_version",
    "language",
];

fn property(object: &Object<'_>, field: &str, whose: Whose) -> Result<Property> {
    let name = object.text(field)?;
    if let Some(column) = COLUMNS.into_iter().find(|column| *column == name) {
        return Ok(Property::Column(column));
    }
    let (property, key) = match (
        name.strip_prefix("properties."),
        name.strip_prefix("user_properties."),
    ) {
        (Some(key), _) => (Property::Event(key.into()), key),
        (_, Some(key)) => (Property::User(key.into()), key),
        _ if matches!(whose, Whose::Person) => (Property::User(name.into()), name),
        _ => (Property::Bare(name.into()), name),
    };
    if key.is_empty() {
        return Err(object.error(field, "names no property"));
    }
    Ok(property)
}

fn property_predicate(object: &Object<'_>, whose: Whose) -> Result<PropertyPredicate> {
    let property = property(object, "property", whose)?;
    let value = || object.value("value");
    let values = || -> Result<Vec<String>> { object.values("values") };
    let compare = |comparison| -> Result<Predicate> {
        let text = value()?;
        let number = number::parse(&text);
        number
            .map(|number| Predicate::Compare(comparison, number))
            .ok_or_else(|| object.error("value", format!("{text:?} is not a number")))
    };
    let moment = || -> Result<Option<i64>> { Ok(moment::parse(&value()?)) };
    let predicate = match object.text("operator")? {
        "eq" => Predicate::Eq(value()?),
        "neq" => Predicate::Neq(value()?),
        "contains" => Predicate::Contains(value()?),
        "not_contains" => Predicate::NotContains(value()?),
        "contains_multi" => Predicate::ContainsMulti(values()?),
        "not_contains_multi" => Predicate::NotContainsMulti(values()?),
        "is_set" => Predicate::IsSet,
        "is_not_set" => Predicate::IsNotSet,
        "gt" => compare(Comparison::Gt)?,
        "lt" => compare(Comparison::Lt)?,
        "gte" => compare(Comparison::Gte)?,
        "lte" => compare(Comparison::Lte)?,
        "between" => {
            let (low, high) = bounds(object)?;
            Predicate::Between(low, high)
        }
        "not_between" => {
            let (low, high) = bounds(object)?;
            Predicate::NotBetween(low, high)
        }
        "regex" => Predicate::Regex(value()?),
        "not_regex" => Predicate::NotRegex(value()?),
        "in" => Predicate::In(values()?),
        "not_in" => Predicate::NotIn(values()?),
        "is_date_before" => Predicate::DateBefore(moment()?),
        "is_date_after" => Predicate::DateAfter(moment()?),
        "is_date_exact" => Predicate::DateExact(moment()?),
        other => return Err(object.unknown("operator", ("operator", other), &words::OPERATORS)),
    };
    Ok(PropertyPredicate { property, predicate })
}

fn bounds(object: &Object<'_>) -> Result<(f64, f64)> {
    let values = object.values("values")?;
    let [low, high] = values.as_slice() else {
        return Err(object.error("values", "needs two numbers"));
    };
    let bound = |index: usize, text: &str| {
        let field = format!("values[{index}]");
        number::parse(text).ok_or_else(|| object.error(&field, format!("{text:?} is not a number")))
    };
    Ok((bound(0, low)?, bound(1, high)?))
}

#[cfg(test)]
mod tests;
