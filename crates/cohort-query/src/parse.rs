//! From JSON to a checked [`Definition`]. Whatever is wrong is an error that names its place.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::definition::{
    Aggregation, Comparison, Condition, Conjunction, DEEPEST, Definition, EventMatch, Group, LONGEST_WINDOW,
    MOST_CONDITIONS, MOST_STEPS, Node, Period, Property, PropertyTest, Test,
};
use crate::{moment, number};

/// A definition that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct DefinitionError {
    /// Where, e.g. `values[2].event_filters[0].operator`; empty for the definition as a whole.
    pub path: String,
    /// What.
    pub problem: String,
}

type Result<T> = std::result::Result<T, DefinitionError>;

impl Definition {
    /// Reads and checks a definition.
    ///
    /// # Errors
    /// The first thing that is wrong with it, and where.
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
            other => {
                return Err(object.error(
                    "type",
                    format!("unknown group type {other:?}, expected AND or OR"),
                ));
            }
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
        condition(object, kind).map(Node::Condition)
    }
}

fn condition(object: &Object<'_>, kind: &str) -> Result<Condition> {
    let window = || object.days("time_window_days");
    Ok(match kind {
        "person_property" => Condition::PersonProperty(property_test(object, Whose::Person)?),
        "event" => of_events(object)?,
        "cohort" => Condition::Cohort {
            id: object.uuid("cohort_id")?,
            negated: object.flag("negated")?,
        },
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
                    other => return Err(object.error("period_type", format!("unknown period {other:?}"))),
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
        other => return Err(object.error("type", format!("unknown condition type {other:?}"))),
    })
}

fn of_events(object: &Object<'_>) -> Result<Condition> {
    let event = event_match(object)?;
    let window = object.days("time_window_days")?;
    let comparison = match object.text("count_operator")? {
        "gte" => Comparison::Gte,
        "lte" => Comparison::Lte,
        "eq" => Comparison::Eq,
        other => return Err(object.error("count_operator", format!("unknown operator {other:?}"))),
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
        other => return Err(object.error("aggregation_type", format!("unknown aggregation {other:?}"))),
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
            .map(|filter| property_test(&filter?, Whose::Event))
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

/// Whose property a bare name means.
#[derive(Clone, Copy)]
enum Whose {
    Person,
    Event,
}

/// Names that are columns of `events`.
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

fn property_test(object: &Object<'_>, whose: Whose) -> Result<PropertyTest> {
    let property = property(object, "property", whose)?;
    let value = || object.value("value");
    let values = || -> Result<Vec<String>> { object.values("values") };
    let compare = |comparison| -> Result<Test> {
        let text = value()?;
        let number = number::parse(&text);
        number
            .map(|number| Test::Compare(comparison, number))
            .ok_or_else(|| object.error("value", format!("{text:?} is not a number")))
    };
    let moment = || -> Result<Option<i64>> { Ok(moment::parse(&value()?)) };
    let test = match object.text("operator")? {
        "eq" => Test::Eq(value()?),
        "neq" => Test::Neq(value()?),
        "contains" => Test::Contains(value()?),
        "not_contains" => Test::NotContains(value()?),
        "contains_multi" => Test::ContainsMulti(values()?),
        "not_contains_multi" => Test::NotContainsMulti(values()?),
        "is_set" => Test::IsSet,
        "is_not_set" => Test::IsNotSet,
        "gt" => compare(Comparison::Gt)?,
        "lt" => compare(Comparison::Lt)?,
        "gte" => compare(Comparison::Gte)?,
        "lte" => compare(Comparison::Lte)?,
        "between" => {
            let (low, high) = bounds(object)?;
            Test::Between(low, high)
        }
        "not_between" => {
            let (low, high) = bounds(object)?;
            Test::NotBetween(low, high)
        }
        "regex" => Test::Regex(value()?),
        "not_regex" => Test::NotRegex(value()?),
        "in" => Test::In(values()?),
        "not_in" => Test::NotIn(values()?),
        "is_date_before" => Test::DateBefore(moment()?),
        "is_date_after" => Test::DateAfter(moment()?),
        "is_date_exact" => Test::DateExact(moment()?),
        other => return Err(object.error("operator", format!("unknown operator {other:?}"))),
    };
    Ok(PropertyTest { property, test })
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

/// A JSON object and where it is.
struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    fn of(path: &str, value: &'a Value) -> Result<Self> {
        let path = path.to_owned();
        match value.as_object() {
            Some(fields) => Ok(Self { path, fields }),
            None => Err(DefinitionError {
                path,
                problem: "is not an object".into(),
            }),
        }
    }

    fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    fn error(&self, field: &str, problem: impl Into<String>) -> DefinitionError {
        DefinitionError {
            path: self.path_of(field),
            problem: problem.into(),
        }
    }

    /// A field that is there and not `null`.
    fn present(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn required(&self, field: &str) -> Result<&'a Value> {
        self.present(field).ok_or_else(|| self.error(field, "is missing"))
    }

    fn optional_text(&self, field: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.present(field) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| self.error(field, "is not text"))
    }

    fn text(&self, field: &str) -> Result<&'a str> {
        self.required(field)?;
        Ok(self.optional_text(field)?.unwrap_or_default())
    }

    /// Text that a property is compared with; numbers and booleans mean their JSON text.
    fn value(&self, field: &str) -> Result<String> {
        scalar(self.required(field)?).ok_or_else(|| self.error(field, "is not text"))
    }

    fn values(&self, field: &str) -> Result<Vec<String>> {
        let values = self.array(field)?.iter().enumerate();
        let text = |(index, value)| {
            scalar(value).ok_or_else(|| self.error(&format!("{field}[{index}]"), "is not text"))
        };
        values.map(text).collect()
    }

    fn array(&self, field: &str) -> Result<&'a [Value]> {
        let value = self.required(field)?;
        let array = value
            .as_array()
            .ok_or_else(|| self.error(field, "is not an array"))?;
        Ok(array)
    }

    fn objects(&self, field: &'a str) -> Result<impl Iterator<Item = Result<Object<'a>>>> {
        let path = self.path_of(field);
        let members = self.array(field)?.iter().enumerate();
        Ok(members.map(move |(index, member)| Object::of(&format!("{path}[{index}]"), member)))
    }

    fn number(&self, field: &str) -> Result<f64> {
        let value = self.required(field)?;
        value.as_f64().ok_or_else(|| self.error(field, "is not a number"))
    }

    fn flag(&self, field: &str) -> Result<bool> {
        let value = self.required(field)?;
        value
            .as_bool()
            .ok_or_else(|| self.error(field, "is neither true nor false"))
    }

    fn uuid(&self, field: &str) -> Result<Uuid> {
        let text = self.text(field)?;
        text.parse()
            .map_err(|_| self.error(field, format!("{text:?} is not a UUID")))
    }

    /// A whole number from 1.
    fn whole(&self, field: &str) -> Result<u32> {
        let number = self.number(field)?;
        if number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number) {
            Ok(number as u32)
        } else {
            Err(self.error(field, "is not a whole number from 1"))
        }
    }

    fn days(&self, field: &str) -> Result<u32> {
        match self.whole(field)? {
            days @ 1..=LONGEST_WINDOW => Ok(days),
            _ => Err(self.error(field, format!("is more than {LONGEST_WINDOW} days"))),
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(written) => Some(number::text(written)),
        Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(json: impl std::borrow::Borrow<Value>) -> String {
        Definition::parse(json.borrow()).unwrap_err().to_string()
    }

    fn of(condition: impl Into<Value>) -> Value {
        json!({"type": "AND", "values": [condition.into()]})
    }

    #[test]
    fn an_error_names_its_place() {
        let filter = json!({"property": "a", "operator": "like", "value": "b"});
        let event = json!({"type": "not_performed_event", "event_name": "x", "time_window_days": 3, "event_filters": [filter]});
        let nested = json!({"type": "OR", "values": [{"type": "AND", "values": []}, event]});
        assert_eq!(
            error(of(nested)),
            r#"values[0].values[1].event_filters[0].operator: unknown operator "like""#
        );
        assert_eq!(error(json!([])), "is not an object");
        assert_eq!(error(json!({"values": []})), "type: is missing");
        assert_eq!(error(json!({"type": "AND"})), "values: is missing");
        assert_eq!(
            error(json!({"type": "AND", "values": [7]})),
            "values[0]: is not an object"
        );
        assert_eq!(
            error(json!({"type": "XOR", "values": []})),
            r#"type: unknown group type "XOR", expected AND or OR"#
        );
        assert_eq!(
            error(of(json!({"type": "dance"}))),
            r#"values[0].type: unknown condition type "dance""#
        );
    }

    #[test]
    fn every_required_field_is_missed_by_its_name() {
        let conditions = [
            json!({"type": "person_property", "property": "a", "operator": "eq", "value": "b"}),
            json!({"type": "person_property", "property": "a", "operator": "in", "values": ["b"]}),
            json!({"type": "event", "event_name": "x", "count_operator": "gte", "count": 1, "time_window_days": 3}),
            json!({"type": "cohort", "cohort_id": Uuid::nil(), "negated": false}),
            json!({"type": "first_time_event", "event_name": "x", "time_window_days": 3}),
            json!({"type": "not_performed_event", "event_name": "x", "time_window_days": 3}),
            json!({"type": "event_sequence", "steps": [{"event_name": "x"}], "time_window_days": 3}),
            json!({"type": "not_performed_event_sequence", "steps": [{"event_name": "x"}], "time_window_days": 3}),
            json!({"type": "performed_regularly", "event_name": "x", "period_type": "day", "total_periods": 4,
                "min_periods": 2, "time_window_days": 3}),
            json!({"type": "stopped_performing", "event_name": "x", "recent_window_days": 1, "historical_window_days": 2}),
            json!({"type": "restarted_performing", "event_name": "x", "recent_window_days": 1, "gap_window_days": 1,
                "historical_window_days": 3}),
        ];
        for condition in conditions {
            Definition::parse(&of(condition.clone())).unwrap();
            for field in condition.as_object().unwrap().keys() {
                for absent in [None, Some(Value::Null)] {
                    let mut broken = condition.clone();
                    match absent {
                        None => drop(broken.as_object_mut().unwrap().remove(field)),
                        Some(null) => broken[field] = null,
                    }
                    assert_eq!(error(of(broken)), format!("values[0].{field}: is missing"));
                }
                let mut broken = condition.clone();
                broken[field] = json!({});
                assert!(error(of(broken)).starts_with(&format!("values[0].{field}: is n")));
            }
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        let property = |operator: &str, value: Value, values: Value| {
            error(of(
                json!({"type": "person_property", "property": "a", "operator": operator, "value": value, "values": values}),
            ))
        };
        assert_eq!(
            property("gt", json!("many"), json!(null)),
            r#"values[0].value: "many" is not a number"#
        );
        assert_eq!(
            property("lte", json!(""), json!(null)),
            r#"values[0].value: "" is not a number"#
        );
        assert_eq!(
            property("gt", json!("1e999"), json!(null)),
            r#"values[0].value: "1e999" is not a number"#
        );
        assert_eq!(
            property("between", json!(null), json!(["1"])),
            "values[0].values: needs two numbers"
        );
        assert_eq!(
            property("not_between", json!(null), json!(["1", "b"])),
            r#"values[0].values[1]: "b" is not a number"#
        );
        assert_eq!(
            property("in", json!(null), json!(["1", []])),
            "values[0].values[1]: is not text"
        );
        let days = |days: Value| {
            error(of(
                json!({"type": "first_time_event", "event_name": "x", "time_window_days": days}),
            ))
        };
        assert_eq!(
            days(json!(0)),
            "values[0].time_window_days: is not a whole number from 1"
        );
        assert_eq!(
            days(json!(1.5)),
            "values[0].time_window_days: is not a whole number from 1"
        );
        assert_eq!(
            days(json!(40_000)),
            "values[0].time_window_days: is more than 36500 days"
        );
        let stopped = |recent: u32, historical: u32| {
            of(
                json!({"type": "stopped_performing", "event_name": "x", "recent_window_days": recent,
                "historical_window_days": historical}),
            )
        };
        assert_eq!(
            error(stopped(30, 30)),
            "values[0].historical_window_days: must be larger than recent_window_days"
        );
        let restarted = of(
            json!({"type": "restarted_performing", "event_name": "x", "recent_window_days": 1,
            "gap_window_days": 2, "historical_window_days": 3}),
        );
        assert_eq!(
            error(restarted),
            "values[0].historical_window_days: must be larger than recent_window_days and gap_window_days together"
        );
        assert_eq!(
            error(of(
                json!({"type": "person_property", "property": "properties.", "operator": "is_set"})
            )),
            "values[0].property: names no property"
        );
    }

    #[test]
    fn there_are_limits_to_size_and_depth() {
        let leaf = json!({"type": "person_property", "property": "a", "operator": "is_set"});
        let flat = |leaves: usize| json!({"type": "OR", "values": vec![leaf.clone(); leaves]});
        Definition::parse(&flat(50)).unwrap();
        assert_eq!(error(flat(51)), "values[50].type: more than 50 conditions");
        let nested =
            |depth: usize| (1..depth).fold(flat(1), |inner, _| json!({"type": "AND", "values": [inner]}));
        Definition::parse(&nested(4)).unwrap();
        assert_eq!(
            error(nested(5)),
            "values[0].values[0].values[0].values[0].type: groups are nested deeper than 4"
        );
        let steps = json!({"type": "event_sequence", "steps": vec![json!({"event_name": "x"}); 51], "time_window_days": 3});
        assert_eq!(error(of(steps)), "values[0].steps: more than 50 steps");
    }

    #[test]
    fn numbers_and_flags_as_values_mean_their_text_and_unknown_fields_are_ignored() {
        let condition = json!({"type": "person_property", "property": "a", "operator": "in", "values": [1, true, "x"], "x": 1});
        let definition = Definition::parse(&of(condition)).unwrap();
        let Node::Condition(Condition::PersonProperty(test)) = &definition.root.nodes[0] else {
            panic!("{definition:?}");
        };
        assert_eq!(test.test, Test::In(vec!["1".into(), "true".into(), "x".into()]));
        assert_eq!(test.property, Property::User("a".into()));
    }

    #[test]
    fn references_are_listed_once_in_order() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let reference = |id: Uuid| json!({"type": "cohort", "cohort_id": id, "negated": true});
        let nested = json!({"type": "OR", "values": [reference(a), reference(b), reference(a)]});
        let definition =
            Definition::parse(&json!({"type": "AND", "values": [reference(b), nested]})).unwrap();
        assert_eq!(definition.references(), [b, a]);
    }
}
