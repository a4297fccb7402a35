//! Moves what a merge has left over of a person with very many distinct ids, a bounded piece at a time.
//!
//! Until a piece is moved, a transaction that reads its mappings under lock counts them as the survivor's; its overrides
//! follow with the piece. A crash leaves the rest for the next instance.

use tokio_postgres::types::Type;

use crate::event::{PersonId, ProjectId};
use crate::stores::StoreError;

use crate::identity::decision::moves::joined_moves;
use crate::identity::moved::Moved;
use crate::identity::publish::outbox::into_outbox;
use crate::identity::publish::overrides::Publisher;

/// Mappings moved in one transaction: tens of milliseconds during which others wait for the survivor.
const PIECE: i64 = 1_000;

/// An unfinished merge, but none of those that were tried in vain.
const NEXT: &str = "
    SELECT project_id, from_person, into_person FROM processor_person_redirects
    WHERE unfinished AND from_person <> ALL ($1) LIMIT 1";

/// The two persons, locked as every merge locks them.
const LOCK: &str = "SELECT id FROM persons WHERE id IN ($1, $2) ORDER BY id FOR UPDATE";

/// Moves a piece, if the merge still leads where it led when the persons were locked.
const MOVE: &str = concat!(
    "
    WITH r AS (
        SELECT from_person, into_person, moves FROM processor_person_redirects
        WHERE project_id = $1 AND from_person = $2 AND into_person = $3 AND unfinished),
    chosen AS (
        SELECT m.id FROM person_distinct_ids m WHERE m.person_id = (SELECT from_person FROM r) LIMIT $4),
    told AS (
        UPDATE person_distinct_ids m SET person_id = r.into_person
        FROM r, chosen
        WHERE m.id = chosen.id
        RETURNING m.project_id, m.distinct_id, m.person_id, r.moves)",
    into_outbox!(above: "0", moves: joined_moves!("o.moves", "excluded.moves"))
);

/// Ends a merge of which nothing is left over, or whose survivor was deleted.
const FINISH: &str = "
    WITH finished AS (
        UPDATE processor_person_redirects r SET unfinished = false, moves = ''
        WHERE r.project_id = $1 AND r.from_person = $2 AND r.into_person = $3 AND r.unfinished
          AND (NOT EXISTS (SELECT FROM person_distinct_ids m WHERE m.person_id = r.from_person)
               OR NOT EXISTS (SELECT FROM persons p WHERE p.id = r.into_person))
        RETURNING r.from_person)
    DELETE FROM persons p USING finished
    WHERE p.id = finished.from_person AND NOT EXISTS (SELECT FROM person_distinct_ids m WHERE m.person_id = p.id)";

/// Finishes merges of persons with very many distinct ids.
pub struct Mover {
    publisher: Publisher,
    /// Persons whose merges PostgreSQL failed on: the others go first.
    passed_over: Vec<PersonId>,
}

impl Mover {
    /// A mover that tells the other stores by `publisher`.
    pub fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            passed_over: Vec::new(),
        }
    }

    /// Moves one piece. `None` when no merge is unfinished but those that failed, which are tried again by the next call;
    /// otherwise how many mappings were moved.
    ///
    /// # Errors
    /// Of any of the three stores. What was committed and not published, the publisher's sweep finds.
    pub async fn step(&mut self) -> Result<Option<usize>, StoreError> {
        let postgres = &self.publisher.postgres;
        let passed_over = [(&self.passed_over as _, Type::UUID_ARRAY)];
        let next = postgres
            .query("looking for unfinished merges", NEXT, &passed_over)
            .await?;
        let Some(next) = next.first() else {
            self.passed_over.clear();
            return Ok(None);
        };
        let (project, from, into): (ProjectId, PersonId, PersonId) = (next.get(0), next.get(1), next.get(2));
        match self.move_piece(project, from, into).await {
            Ok(moved) => {
                self.publisher.publish(&moved).await?;
                Ok(Some(moved.len()))
            }
            Err(error) => {
                self.passed_over.push(from);
                tracing::warn!(
                    %error, %project, %from, %into,
                    "a merge's distinct ids could not be moved: the others go first, then it is tried again"
                );
                Err(error)
            }
        }
    }

    async fn move_piece(
        &self,
        project: ProjectId,
        from: PersonId,
        into: PersonId,
    ) -> Result<Vec<Moved>, StoreError> {
        let postgres = &self.publisher.postgres;
        let persons = [(&from as _, Type::UUID), (&into as _, Type::UUID)];
        let merge = [
            (&project as _, Type::UUID),
            (&from as _, Type::UUID),
            (&into as _, Type::UUID),
        ];
        let piece = [
            (&project as _, Type::UUID),
            (&from as _, Type::UUID),
            (&into as _, Type::UUID),
            (&PIECE as _, Type::INT8),
        ];
        let transaction = postgres.begin("moving a merged person's distinct ids").await?;
        let ((), locked) = tokio::try_join!(biased; transaction.start(), transaction.query(LOCK, &persons))?;
        let moved = if locked.iter().any(|row| row.get::<_, PersonId>(0) == into) {
            transaction.query(MOVE, &piece).await?
        } else {
            Vec::new()
        };
        if moved.len() < PIECE as usize {
            transaction.query(FINISH, &merge).await?;
        }
        transaction.commit().await?;
        Ok(moved.iter().map(Moved::of).collect())
    }
}
