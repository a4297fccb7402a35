//! Behind PgBouncer in its transaction mode, where two statements seldom reach the same connection of the server.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::server::{Beside, as_owner, folder_of, free_port};
use crate::support::{SOON, World, eventually};

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// PgBouncer before the test's PostgreSQL, with fewer connections than the workers have.
async fn pooled(world: &World) -> (String, Beside, tempfile::TempDir) {
    assert!(
        Path::new(PROGRAM).exists(),
        "PgBouncer is not installed: apt-get install pgbouncer"
    );
    let owner = fs::metadata(world.cluster().await).unwrap();
    let folder = folder_of(&owner);
    let (port, server) = (free_port(), world.stack.postgres().unwrap().port());
    let users = folder.path().join("users.txt");
    fs::write(&users, "\"qurvo\" \"qurvo_secret\"\n").unwrap();
    let file = folder.path().join("pgbouncer.ini");
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={server}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 2\n",
        users.display()
    );
    fs::write(&file, settings).unwrap();
    for path in [&users, &file] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    }
    let log = fs::File::create(world.path("pgbouncer.log")).unwrap();
    let program = as_owner(Path::new(PROGRAM), &owner)
        .arg(&file)
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap();
    let program = Beside(program);
    let url = format!("postgresql://qurvo:qurvo_secret@127.0.0.1:{port}/qurvo_analytics");
    let answers = || tokio_postgres::connect(&url, tokio_postgres::NoTls);
    eventually("PgBouncer answers", SOON, async || answers().await.is_ok()).await;
    (url, program, folder)
}

#[tokio::test]
async fn workers_behind_pgbouncer_land_every_event_once_and_merge_persons_right() {
    const PERSONS: usize = 20;
    let world = World::start().await;
    let (url, _pooler, _folder) = pooled(&world).await;
    let through = [("DATABASE_URL", url.as_str()), ("PROCESSOR_BATCH_SIZE", "200")];
    let (is_well, told) = world.checked(&url);
    assert!(is_well, "{told}");
    let (done, told) = world.run(&["migrate"], &through[..1]);
    assert!(done, "{told}");
    let _workers = [world.worker("w1", &through), world.worker("w2", &through)];
    let mut sent = world.load(4000, PERSONS).await;
    sent.extend(world.load(1000, 500).await);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    for n in 0..PERSONS {
        let [one, other] = [format!("anon-{n}"), format!("user-{n}")];
        let (one, other) = (world.persons_of(&one).await, world.persons_of(&other).await);
        assert!(one[0].is_some() && one[0] == other[0], "{n}: {one:?} {other:?}");
    }
    let (agree, told) = world.run(&["person", "audit"], &through[..1]);
    assert!(agree, "{told}");
    // Nobody went around it.
    let direct = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'qurvo-processor'";
    let through_pooler: i64 = world.pg(direct).await[0].parse().unwrap();
    assert!((1..=2).contains(&through_pooler), "{through_pooler}");
}
