-- What the merges of a person have left unpublished is looked for when its `$identify` is delivered again.
CREATE INDEX IF NOT EXISTS processor_person_overrides_unpublished_person_idx
    ON processor_person_overrides (person_id) WHERE NOT published;
