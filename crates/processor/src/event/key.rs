//! The key that maps to a person: a project and a distinct id.

use std::hash::{Hash, Hasher};

use indexmap::Equivalent;
use uuid::Uuid;

use super::id::{self, DistinctId, PersonId, ProjectId};

/// A distinct id within a project: what maps to a person.
#[derive(Debug, Clone)]
pub struct Key {
    /// The project that the distinct id belongs to.
    pub project: ProjectId,
    /// The distinct id as it came, untrimmed.
    pub distinct_id: DistinctId,
    /// The project as the entry spells it, when that is not lower case: a new person's id derives from the spelling.
    spelling: Option<Box<str>>,
}

impl Key {
    /// A key whose project is spelled in lower case.
    pub fn new(project: ProjectId, distinct_id: &str) -> Self {
        Self {
            project,
            distinct_id: distinct_id.into(),
            spelling: None,
        }
    }

    /// A key of an entry that spells its project like this.
    pub(super) fn spelled(project: ProjectId, spelling: &str, distinct_id: &str) -> Self {
        let mut buffer = Uuid::encode_buffer();
        let usual = project.0.as_hyphenated().encode_lower(&mut buffer);
        Self {
            spelling: (usual != spelling).then(|| spelling.into()),
            ..Self::new(project, distinct_id)
        }
    }

    /// The same, for look-ups and statements.
    pub fn borrowed(&self) -> KeyRef<'_> {
        KeyRef::new(self.project, &self.distinct_id)
    }

    /// The person that this key gets when it was never seen before.
    pub fn new_person(&self) -> PersonId {
        let mut buffer = Uuid::encode_buffer();
        let project = match &self.spelling {
            Some(spelling) => spelling,
            None => &*self.project.0.as_hyphenated().encode_lower(&mut buffer),
        };
        id::new_person(project, &self.distinct_id)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.borrowed() == other.borrowed()
    }
}
impl Eq for Key {}
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

/// A key that borrows its distinct id, for look-ups without an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef<'a> {
    /// See [`Key::project`].
    pub project: ProjectId,
    /// See [`Key::distinct_id`].
    pub distinct_id: &'a str,
}

impl<'a> KeyRef<'a> {
    /// A key of these two.
    pub fn new(project: ProjectId, distinct_id: &'a str) -> Self {
        Self { project, distinct_id }
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.borrowed()
    }
}
