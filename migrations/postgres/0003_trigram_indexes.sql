-- Searches for a part of a name in the catalogue. Needs an extension that may not be allowed; all else works without.
-- The platform may have such an index under another name.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = 'event_definitions'::regclass
                   AND pg_get_indexdef(indexrelid) LIKE '%gin_trgm_ops%') THEN
        CREATE INDEX event_definitions_event_name_trgm_idx
            ON event_definitions USING gin (event_name gin_trgm_ops);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = 'property_definitions'::regclass
                   AND pg_get_indexdef(indexrelid) LIKE '%gin_trgm_ops%') THEN
        CREATE INDEX property_definitions_property_name_trgm_idx
            ON property_definitions USING gin (property_name gin_trgm_ops);
    END IF;
END $$;
