//! Where merged persons went: one record per merge, followed hop by hop to the last person that exists.

/// Begins a statement: `n`, the keys given as arrays of projects, distinct ids and persons, and `survivors`, for each of
/// these persons that was merged, the last one on its way that exists. A way that comes back to itself ends there.
macro_rules! with_survivors {
    ($statement:literal) => {
        concat!(
            "WITH RECURSIVE n AS (
                SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS n (project_id, distinct_id, person_id)),
            hops AS (
                SELECT n.project_id, n.person_id, r.into_person AS at, 1 AS hop
                FROM n
                JOIN processor_person_redirects r ON r.project_id = n.project_id AND r.from_person = n.person_id
                UNION ALL
                SELECT h.project_id, h.person_id, r.into_person, h.hop + 1
                FROM hops h
                JOIN processor_person_redirects r ON r.project_id = h.project_id AND r.from_person = h.at)
                CYCLE at SET again USING way,
            survivors AS (
                SELECT DISTINCT ON (h.project_id, h.person_id) h.project_id, h.person_id, p.id AS survivor
                FROM hops h
                JOIN persons p ON p.id = h.at
                ORDER BY h.project_id, h.person_id, h.hop DESC)",
            $statement
        )
    };
}
pub(crate) use with_survivors;
