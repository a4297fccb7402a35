-- A merged person with very many distinct ids is moved piece by piece: until that is finished its row stays, and what is
-- left of its mappings counts as the survivor's.
ALTER TABLE processor_person_redirects ADD COLUMN IF NOT EXISTS unfinished boolean NOT NULL DEFAULT false;

-- What the pieces still to be moved get added to processor_person_overrides.moves.
ALTER TABLE processor_person_redirects ADD COLUMN IF NOT EXISTS moves text NOT NULL DEFAULT '';

CREATE INDEX IF NOT EXISTS processor_person_redirects_unfinished_idx
    ON processor_person_redirects (project_id, into_person) WHERE unfinished;

-- Redirects are followed hop by hop: shortening a million of them in one merge would hold up everybody else.
DROP INDEX IF EXISTS processor_person_redirects_into_idx;

-- The identified distinct ids of a person, also of one with very many. Reads the table once, about a second for three
-- million rows, and holds up its writers meanwhile: on a large table create it beforehand, CONCURRENTLY.
CREATE INDEX IF NOT EXISTS person_distinct_ids_identified_idx
    ON person_distinct_ids (person_id, distinct_id) WHERE identified_at IS NOT NULL;
