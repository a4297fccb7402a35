-- Tables of the platform from before it kept addresses.
ALTER TABLE events {on_cluster} ADD COLUMN IF NOT EXISTS ip String DEFAULT '' AFTER batch_id
