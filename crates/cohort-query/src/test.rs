//! What a value has to satisfy, as SQL over its text. An empty text is no value.

use crate::definition::{Comparison, Test};
use crate::moment;
use crate::pass::Pass;
use crate::property::{moment_of, number_of};

const NEVER: &str = "0";

/// The test over an expression that names the text; true or false, never `NULL`.
pub(crate) fn sql(test: &Test, text: &str, pass: &mut Pass<'_>) -> String {
    match test {
        Test::Eq(value) if value.is_empty() => NEVER.to_owned(),
        Test::Eq(value) => format!("{text} = {}", pass.parameters.text(value)),
        Test::Neq(value) => format!("({text} != '' AND {text} != {})", pass.parameters.text(value)),
        Test::Contains(part) => format!(
            "({text} != '' AND position({text}, {}) > 0)",
            pass.parameters.text(part)
        ),
        Test::NotContains(part) => format!(
            "({text} != '' AND position({text}, {}) = 0)",
            pass.parameters.text(part)
        ),
        Test::ContainsMulti(parts) => format!("({text} != '' AND {})", contains_any(text, parts, pass)),
        Test::NotContainsMulti(parts) => format!("({text} = '' OR NOT {})", contains_any(text, parts, pass)),
        Test::IsSet => format!("{text} != ''"),
        Test::IsNotSet => format!("{text} = ''"),
        Test::Compare(comparison, number) => {
            let number = pass.parameters.number(*number);
            format!(
                "ifNull({} {} {number}, 0)",
                number_of(text),
                operator(*comparison)
            )
        }
        Test::Between(low, high) => format!("ifNull({} {}, 0)", number_of(text), between(*low, *high, pass)),
        Test::NotBetween(low, high) => format!(
            "ifNull({} NOT {}, 0)",
            number_of(text),
            between(*low, *high, pass)
        ),
        Test::Regex(pattern) => format!("({text} != '' AND match({text}, {}))", compiled(pattern, pass)),
        Test::NotRegex(pattern) => format!("({text} = '' OR NOT match({text}, {}))", compiled(pattern, pass)),
        Test::In(values) => format!(
            "({text} != '' AND has({}, {text}))",
            pass.parameters.texts(values)
        ),
        Test::NotIn(values) => format!(
            "({text} = '' OR NOT has({}, {text}))",
            pass.parameters.texts(values)
        ),
        Test::DateBefore(None) | Test::DateAfter(None) | Test::DateExact(None) => NEVER.to_owned(),
        Test::DateBefore(Some(limit)) => {
            format!(
                "ifNull({} < {}, 0)",
                moment_of(text),
                pass.parameters.moment(*limit)
            )
        }
        Test::DateAfter(Some(limit)) => {
            format!(
                "ifNull({} > {}, 0)",
                moment_of(text),
                pass.parameters.moment(*limit)
            )
        }
        Test::DateExact(Some(moment)) => {
            let (first, last) = moment::day_of(*moment);
            let (first, last) = (pass.parameters.moment(first), pass.parameters.moment(last));
            format!("ifNull({} BETWEEN {first} AND {last}, 0)", moment_of(text))
        }
    }
}

/// SQL's own sign.
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

/// A pattern. The engine compiles one when a row needs it; asked about a constant it does so at once, so that a pattern
/// that cannot be compiled is an error even where nobody has a value.
///
/// A dot matches no end of line, as in RE2 by itself; the engine's `match` would have it otherwise.
fn compiled(pattern: &str, pass: &mut Pass<'_>) -> String {
    let pattern = pass.parameters.text(&format!("(?-s){pattern}"));
    pass.only(format!("match('', {pattern}) IN (0, 1)"));
    pattern
}
