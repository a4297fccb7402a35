//! A key's mapping as PostgreSQL has it, and what the outbox says of it.

use tokio_postgres::Row;

use crate::identity::decision::moves::{self, joined_moves};
use crate::identity::decision::properties::Version;
use crate::identity::decision::resolve::Mapping;

/// The keys as `k`, with their place, and the mapping of each as `m`. Each key is looked up by itself: joined as tables,
/// PostgreSQL may choose to read all mappings instead.
macro_rules! mapped {
    () => {
        "unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS k (project_id, distinct_id, place)
    CROSS JOIN LATERAL (SELECT * FROM person_distinct_ids m
                        WHERE m.project_id = k.project_id AND m.distinct_id = k.distinct_id LIMIT 1) m"
    };
}
pub(crate) use mapped;

/// Joins to mappings `m` the merge that has yet to move them, as `r`. Not when the survivor was deleted: then they
/// stay where they are.
macro_rules! unfinished {
    () => {
        "
    LEFT JOIN LATERAL (
        SELECT r.into_person, r.moves FROM processor_person_redirects r
        WHERE r.project_id = m.project_id AND r.from_person = m.person_id AND r.unfinished
          AND EXISTS (SELECT FROM persons survivor WHERE survivor.id = r.into_person) LIMIT 1) r ON true"
    };
}
pub(crate) use unfinished;

/// Reads the mappings of the keys, with their place in the request, the merges that moved them, what the outbox says of
/// them, and whether their persons have yet to be seen this hour.
pub(crate) const READ_MAPPINGS: &str = concat!(
    "
    SELECT k.place::int4, coalesce(r.into_person, m.person_id), m.identified_at IS NOT NULL,
           nullif(CASE WHEN r.moves IS NOT NULL OR octet_length(o.moves) > 4096 THEN ",
    joined_moves!("concat(o.moves)", "concat(r.moves)"),
    " ELSE o.moves END, ''),
           CASE WHEN r.into_person IS NOT NULL THEN 'moving' WHEN o.person_id IS NULL THEN 'never'
                WHEN o.person_id <> m.person_id THEN 'otherwise' WHEN NOT o.published THEN 'waiting'
                WHEN o.version < 0 THEN 'never' ELSE 'published' END,
           coalesce(p.updated_at < date_trunc('hour', now(), 'UTC'), false)
    FROM ",
    mapped!(),
    "
    LEFT JOIN LATERAL (SELECT * FROM processor_person_overrides o
                       WHERE o.project_id = k.project_id AND o.distinct_id = k.distinct_id LIMIT 1) o ON true",
    unfinished!(),
    "
    LEFT JOIN LATERAL (SELECT p.updated_at FROM persons p
                       WHERE p.id = coalesce(r.into_person, m.person_id) LIMIT 1) p ON true"
);

/// What the outbox says of a key, besides its mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutboxState {
    /// Nothing: it never moved, or was attached unseen.
    Never,
    /// Another person: the mapping was changed by a program that told no other store.
    Otherwise,
    /// The same person, and the others have been told.
    Published,
    /// The same person, and the others are yet to be told.
    Waiting,
    /// A merge has yet to move it, and tells of it then.
    Moving,
}

/// A row of [`READ_MAPPINGS`].
pub(crate) struct MappingRow {
    /// Place in the request.
    pub(crate) place: usize,
    /// The mapping.
    pub(crate) mapping: Mapping,
    /// Merges that moved it.
    pub(crate) moves: Vec<Version>,
    /// What the outbox says.
    pub(crate) told: OutboxState,
    /// Whether the person has yet to be seen this hour.
    pub(crate) unseen: bool,
}

impl MappingRow {
    pub(crate) fn of(row: &Row) -> Self {
        let place: i32 = row.get(0);
        let moves = row
            .get::<_, Option<&str>>(3)
            .map(moves::parse)
            .unwrap_or_default();
        let mapping = Mapping {
            person: row.get(1),
            identified: row.get(2),
            moved: moves.iter().copied().max().unwrap_or(Version::OLDEST),
        };
        let told = match row.get(4) {
            "never" => OutboxState::Never,
            "otherwise" => OutboxState::Otherwise,
            "published" => OutboxState::Published,
            "waiting" => OutboxState::Waiting,
            _ => OutboxState::Moving,
        };
        Self {
            place: place as usize - 1,
            mapping,
            moves,
            told,
            unseen: row.get(5),
        }
    }
}
