//! How a distinct id gets into the outbox: the one text that says how versions grow.

/// Ends a statement that has what is to be told as `told (project_id, distinct_id, person_id, moves)`: puts it into the
/// outbox, in the order of the keys, and returns the keys, each with its version where the outbox did not hold it before.
///
/// A version is microseconds of the database's clock, above `$above` and above whatever the outbox has; a negative one,
/// of what was attached unseen, counts as the time that it is. `$moves` are those of a row that is there already.
macro_rules! into_outbox {
    (above: $above:literal, moves: $moves:expr) => {
        concat!(
            "
    INSERT INTO processor_person_overrides AS o (project_id, distinct_id, person_id, version, moves)
    SELECT project_id, distinct_id, person_id,
           greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, ",
            $above,
            " + 1), moves
    FROM told
    ORDER BY project_id, distinct_id
    ON CONFLICT (project_id, distinct_id) DO UPDATE
    SET person_id = excluded.person_id, version = greatest(excluded.version, abs(o.version) + 1), published = false,
        moves = ",
            $moves,
            "
    RETURNING o.project_id, o.distinct_id, CASE WHEN o.xmax = 0 THEN o.version END"
        )
    };
}
pub(crate) use into_outbox;
