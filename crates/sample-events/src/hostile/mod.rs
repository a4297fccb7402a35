//! Bad input of every kind that came to mind, with the outcome that the contract demands for each.
//!
//! Every case stands alone: its event id and distinct id are its own, and its neighbours must not notice it. Where the
//! contract is silent the case carries a note with what was decided.

mod builder;
mod bytes;
mod case;
mod columns;
mod ids;
mod json;
mod times;

pub use bytes::{Bytes, Piece};
pub use case::{Cell, Expect, HostileCase};

/// All cases, in a fixed order.
pub fn hostile_cases() -> Vec<HostileCase> {
    [ids::cases(), times::cases(), json::cases(), columns::cases()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let cases = hostile_cases();
        let names: BTreeSet<_> = cases.iter().map(|case| &case.case).collect();
        assert_eq!(names.len(), cases.len());
    }

    #[test]
    fn no_two_events_that_land_share_an_event_id_or_a_person() {
        let landing = hostile_cases()
            .into_iter()
            .filter(|case| matches!(case.expect, Expect::Lands { .. }));
        let mut persons = BTreeSet::new();
        let mut events = BTreeSet::new();
        for case in landing {
            assert!(persons.insert(case.row()["person_id"].clone()), "{}", case.case);
            if let Some(id) = case.field("event_id").filter(|id| !id.is_empty()) {
                assert!(events.insert(id), "{}", case.case);
            }
        }
        assert!(events.len() > 200);
    }

    #[test]
    fn expected_columns_are_columns_of_the_table() {
        let columns = [
            "event_id",
            "project_id",
            "event_name",
            "event_type",
            "distinct_id",
            "anonymous_id",
            "person_id",
            "session_id",
            "url",
            "referrer",
            "page_title",
            "device_type",
            "browser",
            "os",
            "os_version",
            "screen_width",
            "screen_height",
            "country",
            "language",
            "timezone",
            "properties",
            "user_properties",
            "timestamp",
            "batch_id",
            "ip",
        ];
        for case in hostile_cases() {
            for column in case.row().keys() {
                assert!(columns.contains(&column.as_str()), "{}: {column}", case.case);
            }
        }
    }

    #[test]
    fn every_reason_of_the_contract_occurs() {
        let reasons: BTreeSet<_> = hostile_cases()
            .into_iter()
            .filter_map(|case| match case.expect {
                Expect::Rejected { reason } => Some(reason),
                Expect::Lands { .. } => None,
            })
            .collect();
        assert_eq!(
            reasons.into_iter().collect::<Vec<_>>(),
            [
                "distinct_id_too_long",
                "illegal_distinct_id",
                "invalid_distinct_id",
                "invalid_event_id",
                "invalid_project_id",
                "invalid_timestamp",
                "missing_fields",
                "unknown_project",
            ]
        );
    }
}
