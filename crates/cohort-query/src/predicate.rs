//! Predicates as SQL over the text of a value. An empty text means no value.

use crate::definition::{Comparison, Predicate};
use crate::moment;
use crate::pass::Pass;
use crate::reading::{moment_of, number_of};

const NEVER: &str = "0";

/// The predicate over an expression for the text. True or false, never `NULL`.
pub(crate) fn sql(predicate: &Predicate, text: &str, pass: &mut Pass<'_>) -> String {
    match predicate {
        Predicate::Eq(value) if value.is_empty() => NEVER.to_owned(),
        Predicate::Eq(value) => format!("{text} = {}", pass.parameters.text(value)),
        Predicate::Neq(value) => format!("({text} != '' AND {text} != {})", pass.parameters.text(value)),
        Predicate::Contains(part) => format!(
            "({text} != '' AND position({text}, {}) > 0)",
            pass.parameters.text(part)
        ),
        Predicate::NotContains(part) => format!(
            "({text} != '' AND position({text}, {}) = 0)",
            pass.parameters.text(part)
        ),
        Predicate::ContainsMulti(parts) => format!("({text} != '' AND {})", contains_any(text, parts, pass)),
        Predicate::NotContainsMulti(parts) => {
            format!("({text} = '' OR NOT {})", contains_any(text, parts, pass))
        }
        Predicate::IsSet => format!("{text} != ''"),
        Predicate::IsNotSet => format!("{text} = ''"),
        Predicate::Compare(comparison, number) => {
            let number = pass.parameters.number(*number);
            format!(
                "ifNull({} {} {number}, 0)",
                number_of(text),
                operator(*comparison)
            )
        }
        Predicate::Between(low, high) => {
            format!("ifNull({} {}, 0)", number_of(text), between(*low, *high, pass))
        }
        Predicate::NotBetween(low, high) => format!(
            "ifNull({} NOT {}, 0)",
            number_of(text),
            between(*low, *high, pass)
        ),
        Predicate::Regex(pattern) => format!("({text} != '' AND match({text}, {}))", compiled(pattern, pass)),
        Predicate::NotRegex(pattern) => {
            format!("({text} = '' OR NOT match({text}, {}))", compiled(pattern, pass))
        }
        Predicate::In(values) => format!(
            "({text} != '' AND has({}, {text}))",
            pass.parameters.texts(values)
        ),
        Predicate::NotIn(values) => format!(
            "({text} = '' OR NOT has({}, {text}))",
            pass.parameters.texts(values)
        ),
        Predicate::DateBefore(None) | Predicate::DateAfter(None) | Predicate::DateExact(None) => {
            NEVER.to_owned()
        }
        Predicate::DateBefore(Some(limit)) => {
            format!(
                "ifNull({} < {}, 0)",
                moment_of(text),
                pass.parameters.moment(*limit)
            )
        }
        Predicate::DateAfter(Some(limit)) => {
            format!(
                "ifNull({} > {}, 0)",
                moment_of(text),
                pass.parameters.moment(*limit)
            )
        }
        Predicate::DateExact(Some(moment)) => {
            let (first, last) = moment::day_of(*moment);
            let (first, last) = (pass.parameters.moment(first), pass.parameters.moment(last));
            format!("ifNull({} BETWEEN {first} AND {last}, 0)", moment_of(text))
        }
    }
}

/// The SQL operator of a comparison.
pub(crate) fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Gt => ">",
        Comparison::Lt => "<",
        Comparison::Gte => ">=",
        Comparison::Lte => "<=",
        Comparison::Eq => "=",
    }
}

fn contains_any(text: &str, parts: &[String], pass: &mut Pass<'_>) -> String {
    let parts = pass.parameters.texts(parts);
    format!("arrayExists(part -> position({text}, part) > 0, {parts})")
}

fn between(low: f64, high: f64, pass: &mut Pass<'_>) -> String {
    format!(
        "BETWEEN {} AND {}",
        pass.parameters.number(low),
        pass.parameters.number(high)
    )
}

/// A pattern as a parameter. The engine compiles a pattern only when a row needs it. Matching a constant makes it compile
/// at once, so that an invalid pattern is an error even where no person has a value.
///
/// A dot does not match the end of a line, as in plain RE2; the engine's `match` would let it.
fn compiled(pattern: &str, pass: &mut Pass<'_>) -> String {
    let pattern = pass.parameters.text(&format!("(?-s){pattern}"));
    pass.only(format!("match('', {pattern}) IN (0, 1)"));
    pattern
}
