-- A retried insert of one batch is dropped by the engine; replicated tables have such a window by default.
ALTER TABLE events {on_cluster} MODIFY SETTING non_replicated_deduplication_window = 1000
