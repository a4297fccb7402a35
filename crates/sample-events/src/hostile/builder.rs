//! Building a case: an event that would be fine, and what is wrong with it.

use std::collections::BTreeMap;

use uuid::{Uuid, uuid};

use super::bytes::Bytes;
use super::case::{Cell, Expect, HostileCase};
use crate::account::person_id;
use crate::projects::PROJECTS;

/// Namespace of the event ids of hostile cases.
const EVENTS: Uuid = uuid!("0b1f4c1e-52d7-4c5b-9a3e-6f1d2c8e7a90");

/// The time of events whose time does not matter. Far ahead, so that no row expires while the fixtures are in use;
/// before 2106, where ClickHouse's expiry arithmetic ends.
pub(crate) const AT: &str = "2100-01-01T00:00:00.000Z";

/// The project of the cases.
pub(crate) const PROJECT: &str = PROJECTS[0].id;

/// A case in the making.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    case: HostileCase,
}

/// An event that lands, with ids of its own, named by the case.
pub(crate) fn case(name: &str) -> Builder {
    let event_id = Uuid::new_v5(&EVENTS, name.as_bytes()).to_string();
    let entry = [
        ("event_id", event_id.as_str()),
        ("project_id", PROJECT),
        ("event_name", "hostile"),
        ("event_type", "track"),
        ("distinct_id", &format!("hostile-{name}")),
        ("properties", "{}"),
        ("user_properties", "{}"),
        ("timestamp", AT),
    ];
    let entry = entry.map(|(name, value)| (name.into(), value.into())).into();
    let expect = Expect::Lands {
        row: BTreeMap::new(),
        warning: None,
        person_properties: None,
        may_expire: false,
    };
    Builder {
        case: HostileCase {
            case: name.to_owned(),
            expect,
            note: None,
            entry,
        },
    }
}

impl Builder {
    /// Gives a field this value.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        let value = value.into();
        match self
            .case
            .entry
            .iter_mut()
            .find(|(known, _)| *known == name.into())
        {
            Some((_, old)) => *old = value,
            None => self.case.entry.push((name.into(), value)),
        }
        self
    }

    /// Adds a field even if there is one of that name.
    pub(crate) fn also(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.case.entry.push((name.into(), value.into()));
        self
    }

    /// Leaves fields out.
    pub(crate) fn without(mut self, names: &[&str]) -> Self {
        self.case
            .entry
            .retain(|(known, _)| !names.iter().any(|name| *known == (*name).into()));
        self
    }

    /// Replaces the whole entry.
    pub(crate) fn only(mut self, entry: &[(&str, &str)]) -> Self {
        self.case.entry = entry
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        self
    }

    /// An `$identify` with this anonymous id.
    pub(crate) fn identify(self, anonymous_id: impl Into<Bytes>) -> Self {
        self.with("event_name", "$identify")
            .with("event_type", "identify")
            .with("anonymous_id", anonymous_id)
    }

    /// Says what the contract leaves open.
    pub(crate) fn note(mut self, note: &str) -> Self {
        self.case.note = Some(note.to_owned());
        self
    }

    /// Expects a column's value.
    pub(crate) fn column(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.cell(name, Cell::Text(value.into()));
        self
    }

    /// Expects a column's number.
    pub(crate) fn number(mut self, name: &str, value: u64) -> Self {
        self.cell(name, Cell::Number(value));
        self
    }

    /// Gives a field this value and expects the same in the row.
    pub(crate) fn kept(self, name: &str, value: impl Into<Bytes>) -> Self {
        let value = value.into();
        self.with(name, value.clone()).column(name, value)
    }

    /// Expects a warning of this type.
    pub(crate) fn warns(mut self, kind: &str) -> Self {
        if let Expect::Lands { warning, .. } = &mut self.case.expect {
            *warning = Some(kind.to_owned());
        }
        self
    }

    /// Expects exactly these properties of the person.
    pub(crate) fn person_has(mut self, properties: &[(&str, &str)]) -> Self {
        if let Expect::Lands {
            person_properties, ..
        } = &mut self.case.expect
        {
            let owned = properties
                .iter()
                .map(|(key, json)| ((*key).to_owned(), (*json).to_owned()));
            *person_properties = Some(owned.collect());
        }
        self
    }

    /// Allows the row to have expired.
    pub(crate) fn may_expire(mut self) -> Self {
        if let Expect::Lands { may_expire, .. } = &mut self.case.expect {
            *may_expire = true;
        }
        self
    }

    /// The case as one that is rejected.
    pub(crate) fn rejected(mut self, reason: &str) -> HostileCase {
        self.case.expect = Expect::Rejected {
            reason: reason.to_owned(),
        };
        self.case
    }

    /// The case as one that lands, under the person of its distinct id.
    pub(crate) fn lands(mut self) -> HostileCase {
        let project = self.case.field("project_id").unwrap_or_default();
        let distinct_id = self.case.field("distinct_id").unwrap_or_default();
        self.cell(
            "person_id",
            Cell::Text(person_id(&project, &distinct_id).to_string().into()),
        );
        self.cell("distinct_id", Cell::Text(distinct_id.into()));
        self.case
    }

    fn cell(&mut self, name: &str, cell: Cell) {
        if let Expect::Lands { row, .. } = &mut self.case.expect {
            row.entry(name.to_owned()).or_insert(cell);
        }
    }
}
