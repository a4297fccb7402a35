//! What is refused, skipped or said when something is not as it should be.

use super::{Pair, count};
use crate::support::{STREAM, World};

#[tokio::test]
async fn a_migration_applied_in_another_form_is_refused_by_name() {
    let world = World::start().await;
    world
        .ch("INSERT INTO _processor_migrations (name, checksum, applied_at)
             VALUES ('0005_cohorts', 'other', now() + 60)")
        .await;
    for arguments in [
        ["migrate"].as_slice(),
        &["migrate", "--check"],
        &["check", "--json"],
    ] {
        let (ok, text) = world.run(arguments, &[]);
        assert!(
            !ok && text.contains("0005_cohorts") && text.contains("another form"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn without_the_right_to_the_trigram_extension_it_goes_on_and_says_so() {
    let world = World::start().await;
    let owner = Pair::created(&world, "no_extension").await;
    owner
        .pg("CREATE ROLE plain LOGIN PASSWORD 'plain'; GRANT CREATE, USAGE ON SCHEMA public TO plain")
        .await;
    let (_, server) = owner.database_url.split_once('@').unwrap();
    let pair = Pair {
        database_url: format!("postgresql://plain:plain@{server}"),
        ..Pair::new(&world, owner.name)
    };
    for _ in 0..2 {
        let text = pair.migrate();
        assert!(
            text.contains("skipped") && text.contains("permission denied"),
            "{text}"
        );
        assert!(pair.run(&["migrate", "--check"]).0);
        owner.with_project().await;
        assert!(pair.run(&["check"]).0);
    }
    owner.pg("CREATE EXTENSION pg_trgm").await;
    let text = pair.migrate();
    assert_eq!(count(&text, "applied now"), 1, "{text}");
    let indexes = pair
        .pg("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%gin_trgm_ops%' ORDER BY 1")
        .await;
    assert_eq!(indexes.len(), 2, "{indexes:?}");
}

#[tokio::test]
async fn check_names_what_is_wrong_with_streams_and_tables() {
    let world = World::start().await;
    let findings = |arguments: &[(&str, &str)]| {
        let (ok, text) = world.run(&["check", "--json"], arguments);
        let findings: Vec<serde_json::Value> = serde_json::from_str(text.trim()).unwrap();
        assert!(findings.iter().all(|finding| finding["ms"].is_u64()), "{text}");
        assert_eq!(findings.iter().all(|finding| finding["ok"] == true), ok, "{text}");
        // What is wrong, or what was found of the streams.
        let told = findings.iter().filter(|finding| {
            let is_asked = ok && finding["what"] == "streams";
            is_asked || finding["ok"] == false
        });
        let told: Vec<&str> = told.map(|finding| finding["detail"].as_str().unwrap()).collect();
        (ok, told.join("; "))
    };
    let (ok, detail) = findings(&[("PROCESSOR_TRIM", "off")]);
    assert!(
        ok && detail.contains("not there yet") && detail.contains("PROCESSOR_TRIM=off"),
        "{detail}"
    );
    let (ok, detail) = findings(&[("PROCESSOR_STREAM", "a_text")]);
    assert!(ok, "{detail}");
    let mut redis = world.redis.clone();
    let () = redis::cmd("SET")
        .arg("a_text")
        .arg("1")
        .query_async(&mut redis)
        .await
        .unwrap();
    let (ok, detail) = findings(&[("PROCESSOR_STREAM", "a_text")]);
    assert!(!ok && detail.contains("a_text is a string"), "{detail}");

    let fill = "for n = 1, 10000 do redis.call('XADD', KEYS[1], '*', 'a', '') end";
    for _ in 0..90 {
        let command = redis::cmd("EVAL").arg(fill).arg(1).arg(STREAM).to_owned();
        let () = command.query_async(&mut redis).await.unwrap();
    }
    let (ok, detail) = findings(&[]);
    assert!(!ok && detail.contains("900000 entries"), "{detail}");
    let _deleted: u64 = redis::cmd("DEL")
        .arg(STREAM)
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(findings(&[]).0);

    world
        .ch("ALTER TABLE ingestion_warnings DROP COLUMN details")
        .await;
    let (ok, detail) = findings(&[]);
    assert!(!ok && detail.contains("details"), "{detail}");
    world
        .pg("ALTER TABLE persons DROP COLUMN property_versions")
        .await;
    let (ok, detail) = findings(&[]);
    assert!(
        !ok && detail.contains("property_versions") && detail.contains("details"),
        "both are told: {detail}"
    );
}
