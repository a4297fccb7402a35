//! Indexes over large tables are built while the tables are written to.

use crate::support::{PROJECT, SOON, World, eventually};

const INDEX: &str = "processor_person_overrides_published_idx";

/// As before the migration that builds it.
async fn without_index(world: &World) {
    world
        .pg(&format!(
            "DROP INDEX {INDEX}; DELETE FROM processor_migrations WHERE name = '0006_published_by_age'"
        ))
        .await;
}

async fn is_valid(world: &World) -> bool {
    let sql = format!("SELECT indisvalid FROM pg_index WHERE indexrelid = '{INDEX}'::regclass");
    world.pg(&sql).await == ["t"]
}

fn written(distinct_id: &str) -> String {
    format!(
        "INSERT INTO processor_person_overrides (project_id, distinct_id, person_id, version)
         VALUES ('{PROJECT}', '{distinct_id}', '{PROJECT}', 1)"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_built_while_its_table_is_written_to_and_two_migrate_at_once() {
    let world = World::start().await;
    without_index(&world).await;
    let writer = world.pg_client().await;
    writer
        .batch_execute(&format!("BEGIN; {}", written("before")))
        .await
        .unwrap();
    std::thread::scope(|scope| {
        let migrating = [(); 2].map(|()| scope.spawn(|| world.run(&["migrate"], &[])));
        let meanwhile = async {
            eventually("the build waits for the writer", SOON, async || {
                let waiting = "SELECT 1 FROM pg_stat_activity
                               WHERE query LIKE '%CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'
                                 AND pid <> pg_backend_pid()";
                !world.pg(waiting).await.is_empty()
            })
            .await;
            let other = world.pg_client().await;
            let soon = format!("SET lock_timeout = '5s'; {}", written("meanwhile"));
            other.batch_execute(&soon).await.unwrap();
            assert!(migrating.iter().any(|migrating| !migrating.is_finished()));
            writer.batch_execute("COMMIT").await.unwrap();
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(meanwhile));
        for migrating in migrating {
            let (ok, said) = migrating.join().unwrap();
            assert!(ok, "{said}");
        }
    });
    assert!(is_valid(&world).await);
}

#[tokio::test]
async fn what_an_interrupted_build_has_left_is_built_again() {
    let world = World::start().await;
    without_index(&world).await;
    world
        .pg(&format!(
            "CREATE INDEX {INDEX} ON processor_person_overrides (version) WHERE published;
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX}'::regclass"
        ))
        .await;
    let (ok, said) = world.run(&["migrate"], &[]);
    assert!(ok, "{said}");
    assert!(is_valid(&world).await);
}
