//! Persons under lock: how much of them is loaded, and reading it.

use tokio_postgres::Row;

use crate::identity::decision::changes::LockedPerson;
use crate::identity::decision::properties::{Limits, Properties};

use super::too_much::MOST_LOADED;

/// What a `jsonb` takes when it is not compressed. Joined with nothing, a document comes back as it is read.
macro_rules! unpacked {
    ($column:literal) => {
        concat!(
            "CASE jsonb_typeof(",
            $column,
            ") WHEN 'object' THEN pg_column_size(",
            $column,
            " || '{}'::jsonb) WHEN 'array' THEN pg_column_size(",
            $column,
            " || '[]'::jsonb) ELSE coalesce(octet_length(",
            $column,
            "::text), 0) END"
        )
    };
}

/// The rest of a query that has locked persons as `locked (id, properties, property_versions)`: what each takes to load
/// (null for one that has more than $3), and its texts, unless all of them together have more than $4. Nothing is
/// printed before it is known to be small enough for that: not what takes more than $3 as it is stored or unpacked, and
/// nothing at all where what is stored is too much already (the sizes are those, then).
macro_rules! loaded {
    () => {
        concat!(
            ", stored AS MATERIALIZED (
        SELECT *, pg_column_size(properties)::int8 + coalesce(pg_column_size(property_versions), 0) AS bytes
        FROM locked),
    counted AS MATERIALIZED (
        SELECT *, coalesce(sum(bytes) FILTER (WHERE bytes <= $3) OVER (), 0) <= $4 AS measure FROM stored),
    measured AS MATERIALIZED (
        SELECT *, CASE WHEN bytes > $3 THEN NULL
                       WHEN NOT measure THEN bytes
                       WHEN ",
            unpacked!("properties"),
            " + ",
            unpacked!("property_versions"),
            " <= $3
                       THEN octet_length(properties::text)::int8 + coalesce(octet_length(property_versions::text), 0)
                  END AS size
        FROM counted),
    summed AS (
        SELECT *, measure AND coalesce(sum(size) FILTER (WHERE size <= $3) OVER (), 0) <= $4 AS fits FROM measured)
    SELECT id, CASE WHEN size <= $3 THEN size END,
           CASE WHEN size <= $3 AND fits THEN properties::text END,
           CASE WHEN size <= $3 AND fits THEN property_versions::text END
    FROM summed"
        )
    };
}
pub(crate) use {loaded, unpacked};

/// A person holds this many times its limit, at most, or it is not loaded: what another program wrote, or what was
/// written under another limit, may be somewhat more.
const SLACK: usize = 4;

impl LockedPerson {
    /// The parameters $3 and $4 of a query that loads persons.
    pub(crate) fn bounds(limits: Limits) -> (i64, i64) {
        let most = limits.bytes.saturating_mul(SLACK);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let together = i64::try_from(MOST_LOADED).unwrap_or(i64::MAX);
        (most, together.max(most.saturating_mul(2)))
    }

    /// Reads a row of a query that loads persons. `None` when it was too much to be loaded with the others.
    pub(crate) fn of(row: &Row) -> Option<Self> {
        if row.get::<_, Option<i64>>(1).is_none() {
            return Some(Self::TooLarge);
        }
        let properties: &str = row.get::<_, Option<&str>>(2)?;
        Some(match Properties::load(properties, row.get(3)) {
            Ok(properties) => Self::Loaded(properties),
            Err(error) => Self::Unreadable(error.to_string()),
        })
    }
}
