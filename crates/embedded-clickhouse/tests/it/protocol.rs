//! Requests made by hand: what ClickHouse documents of its HTTP interface.

use std::time::Duration;

use crate::support::{PASSWORD, Server, USER, server};

/// Status, exception code header, body.
async fn answer(request: reqwest::RequestBuilder) -> (u16, Option<String>, String) {
    let response = request.send().await.unwrap();
    let code = response
        .headers()
        .get("x-clickhouse-exception-code")
        .map(|code| code.to_str().unwrap().to_owned());
    (response.status().as_u16(), code, response.text().await.unwrap())
}

fn good(text: &str) -> (u16, Option<String>, String) {
    (200, None, text.to_owned())
}

#[tokio::test]
async fn ping_needs_no_user() {
    let (server, _data) = server();
    for path in ["/ping", "/"] {
        let url = format!("{}{path}", server.url);
        assert_eq!(answer(reqwest::Client::new().get(url)).await, good("Ok.\n"));
    }
}

#[tokio::test]
async fn the_statement_stands_in_the_url_in_the_body_or_in_both() {
    let (server, _data) = server();
    assert_eq!(answer(server.post(&[("query", "SELECT 1")])).await, good("1\n"));
    assert_eq!(answer(server.post(&[]).body("SELECT 2")).await, good("2\n"));
    assert_eq!(
        answer(server.post(&[("query", "SELECT 3 +")]).body("4 FORMAT CSV")).await,
        good("7\n")
    );
    let url = format!("{}/?query=SELECT%205", server.url);
    let get = reqwest::Client::new().get(url).basic_auth(USER, Some(PASSWORD));
    assert_eq!(answer(get).await, good("5\n"));
}

#[tokio::test]
async fn three_ways_to_name_the_user() {
    let (server, _data) = server();
    let plain = || reqwest::Client::new().post(&server.url).body("SELECT 1");
    let by_header = plain()
        .header("X-ClickHouse-User", USER)
        .header("X-ClickHouse-Key", PASSWORD);
    assert_eq!(answer(by_header).await, good("1\n"));
    let url = url::Url::parse_with_params(&server.url, [("user", USER), ("password", PASSWORD)]).unwrap();
    let by_url = reqwest::Client::new().post(url).body("SELECT 1");
    assert_eq!(answer(by_url).await, good("1\n"));
    for wrong in [
        plain(),
        plain().basic_auth(USER, Some("wrong")),
        plain().basic_auth("nobody", Some(PASSWORD)),
    ] {
        let (status, code, text) = answer(wrong).await;
        assert_eq!((status, code.as_deref()), (403, Some("516")), "{text}");
    }
}

#[tokio::test]
async fn every_kind_of_failure_has_its_status_and_code() {
    let (server, _data) = server();
    server
        .ask("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
        .await;
    for (sql, status, code) in [
        ("SELEC 1", 400, "62"),
        ("SELECT nothing", 404, "47"),
        ("SELECT * FROM nothing", 404, "60"),
        ("SELECT * FROM nothing.at_all", 404, "81"),
        ("SELECT no_such_function(1)", 404, "46"),
        ("CREATE TABLE t (a UInt8) ENGINE = Memory", 500, "57"),
        ("SELECT throwIf(1)", 500, "395"),
        ("SELECT {missing:String}", 400, "456"),
    ] {
        let (found, header, text) = answer(server.post(&[]).body(sql)).await;
        assert_eq!((found, header.as_deref()), (status, Some(code)), "{sql}: {text}");
        assert!(
            text.contains(&format!("Code: {code}. DB::Exception")),
            "{sql}: {text}"
        );
    }
    let (status, code, _) = answer(reqwest::Client::new().put(&server.url)).await;
    assert_eq!((status, code.as_deref()), (501, Some("48")));
}

#[tokio::test]
async fn formats_come_from_the_statement_the_url_or_a_header() {
    let (server, _data) = server();
    let sql = "SELECT 1 AS a, 'x\ty' AS b";
    assert_eq!(answer(server.post(&[]).body(sql)).await, good("1\tx\\ty\n"));
    assert_eq!(
        answer(server.post(&[("default_format", "CSV")]).body(sql)).await,
        good("1,\"x\ty\"\n")
    );
    assert_eq!(
        answer(
            server
                .post(&[])
                .header("X-ClickHouse-Format", "JSONEachRow")
                .body(sql)
        )
        .await,
        good("{\"a\":1,\"b\":\"x\\ty\"}\n")
    );
    let both = server.post(&[("default_format", "CSV")]);
    assert_eq!(
        answer(both.body(format!("{sql} FORMAT TSVWithNames"))).await,
        good("a\tb\n1\tx\\ty\n")
    );
}

#[tokio::test]
async fn parameters_come_in_the_url_or_in_a_form() {
    let (server, _data) = server();
    let sql = "SELECT {a:String}, {b:Int64}";
    let asked = server.post(&[("query", sql), ("param_a", "x\\ty"), ("param_b", "-5")]);
    assert_eq!(answer(asked).await, good("x\\ty\t-5\n"));

    let boundary = "a-boundary";
    let part = |name: &str, value: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let form = |text: &str| {
        let form = [
            part("query", sql),
            part("param_a", text),
            part("param_b", "6"),
            format!("--{boundary}--\r\n"),
        ];
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let asked = server.post(&[]).header("Content-Type", content_type);
        asked.body(form.concat())
    };
    assert_eq!(answer(form("form")).await, good("form\t6\n"));
    let long = "x".repeat(128 << 10);
    assert_eq!(answer(form(&long)).await, good(&format!("{long}\t6\n")));
    let (status, _, text) = answer(form(&format!("{long}x"))).await;
    assert!(
        status != 200 && text.contains("Field value too long"),
        "{status} {text}"
    );
}

#[tokio::test]
async fn rows_follow_the_statement_in_one_body_or_stand_alone() {
    let (server, _data) = server();
    server
        .ask("CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
        .await;
    let insert = "INSERT INTO t FORMAT JSONEachRow";
    let alone = server
        .post(&[("query", insert)])
        .body(r#"{"a":1,"b":"FORMAT x"}"#);
    assert_eq!(answer(alone).await, good(""));
    let together = format!("{insert}\n{{\"a\":2,\"b\":\"two\"}}\n{{\"a\":3,\"b\":\"three\"}}");
    assert_eq!(answer(server.post(&[]).body(together)).await, good(""));
    assert_eq!(
        answer(
            server
                .post(&[])
                .body("INSERT INTO t VALUES (4, 'SELECT FORMAT Native')")
        )
        .await,
        good("")
    );
    let selected = "INSERT INTO t SELECT number + 5, 'n' FROM numbers(2)";
    assert_eq!(answer(server.post(&[]).body(selected)).await, good(""));
    let row_binary = [&5_u32.to_le_bytes()[..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    let (status, _, text) = answer(
        server
            .post(&[("query", "INSERT INTO t FORMAT RowBinary")])
            .body(row_binary),
    )
    .await;
    assert!(status >= 400, "a string longer than its body: {text}");
    assert_eq!(
        server
            .ask("SELECT groupArray(a) FROM (SELECT a FROM t ORDER BY a)")
            .await,
        "[1,2,3,4,5,6]"
    );
}

#[tokio::test]
async fn a_body_may_come_in_chunks() {
    let (server, _data) = server();
    server
        .ask("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let bytes: Vec<u8> = (0..200_000_u64).flat_map(u64::to_le_bytes).collect();
    let address = server.url.trim_start_matches("http://").to_owned();
    // By hand: the length is not known, the chunks are odd.
    let status = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(
            stream,
            "POST /?query=INSERT%20INTO%20t%20FORMAT%20RowBinary HTTP/1.1\r\nHost: {address}\r\nX-ClickHouse-User: \
             {USER}\r\nX-ClickHouse-Key: {PASSWORD}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        for chunk in bytes.chunks(7919) {
            write!(stream, "{:x}\r\n", chunk.len()).unwrap();
            stream.write_all(chunk).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.lines().next().unwrap().to_owned()
    })
    .await
    .unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(
        server.ask("SELECT count(), max(a) FROM t").await,
        "200000\t199999"
    );
}

#[tokio::test]
async fn a_broken_or_oversized_body_stores_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--max-body-bytes", "100000"]);
    server
        .ask("CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a")
        .await;
    let insert = ("query", "INSERT INTO t FORMAT RowBinary");
    for (what, body, decompress) in [
        ("not compressed", vec![1, b'x'], "1"),
        ("cut in the header", vec![0; 20], "1"),
        (
            "checksum of nothing",
            [vec![0; 16], vec![0x82, 20, 0, 0, 0, 1, 0, 0, 0], vec![0; 11]].concat(),
            "1",
        ),
        ("cut in a row", vec![9, b'x'], "0"),
        ("too long", vec![0; 100_001], "0"),
    ] {
        let (status, code, text) =
            answer(server.post(&[insert, ("decompress", decompress)]).body(body)).await;
        assert!(status >= 400 && code.is_some(), "{what}: {status} {text}");
    }
    let gzip = server
        .post(&[insert])
        .header("Content-Encoding", "gzip")
        .body(vec![0]);
    let (status, _, text) = answer(gzip).await;
    assert!(status == 501 && text.contains("Content-Encoding"), "{text}");
    assert_eq!(server.ask("SELECT count() FROM t").await, "0");
}

#[tokio::test]
async fn get_reads_only() {
    let (server, _data) = server();
    let url = format!("{}/?query=CREATE%20DATABASE%20x", server.url);
    let get = reqwest::Client::new().get(url).basic_auth(USER, Some(PASSWORD));
    let (status, code, text) = answer(get).await;
    assert_eq!((status, code.as_deref()), (500, Some("164")), "{text}");
}

#[tokio::test]
async fn an_insert_is_answered_with_its_rows_as_a_server_counts_them() {
    let (server, _data) = server();
    for statement in [
        "CREATE TABLE t (a UInt64) ENGINE = ReplacingMergeTree ORDER BY a
         SETTINGS non_replicated_deduplication_window = 100",
        "CREATE TABLE copies (a UInt64) ENGINE = MergeTree ORDER BY a",
    ] {
        server.ask(statement).await;
    }
    let written = async |rows: &'static str, settings: &[(&str, &str)]| {
        let mut parameters = vec![("query", "INSERT INTO t FORMAT CSV")];
        parameters.extend_from_slice(settings);
        let response = server.post(&parameters).body(rows).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let headers = response.headers().clone();
        assert_eq!(response.text().await.unwrap(), "");
        assert!(!headers["x-clickhouse-query-id"].is_empty());
        let summary = headers["x-clickhouse-summary"].to_str().unwrap();
        assert!(
            summary.contains(r#""read_bytes":""#) && summary.contains(r#""written_bytes":""#),
            "{summary}"
        );
        let (_, rest) = summary.split_once(r#""written_rows":""#).unwrap();
        rest.split_once('"').unwrap().0.parse::<u64>().unwrap()
    };
    assert_eq!(written("1\n2\n3\n", &[]).await, 3);
    assert_eq!(written("", &[]).await, 0);
    // Equal keys collapse after they are counted.
    for optimize in ["0", "1"] {
        let settings = [("optimize_on_insert", optimize), ("wait_end_of_query", "1")];
        assert_eq!(written("7\n7\n7\n", &settings).await, 3);
    }
    // What is dropped as a repetition is counted nevertheless.
    let token = [
        ("insert_deduplication_token", "once"),
        ("insert_deduplicate", "1"),
    ];
    let before = server.ask("SELECT count() FROM t").await;
    assert_eq!(written("4\n5\n", &token).await, 2);
    let after = server.ask("SELECT count() FROM t").await;
    assert_ne!(after, before);
    assert_eq!(written("4\n5\n", &token).await, 2);
    assert_eq!(server.ask("SELECT count() FROM t").await, after);
    // So is what a materialized view adds to a table of its own.
    server
        .ask("CREATE MATERIALIZED VIEW copy TO copies AS SELECT a FROM t")
        .await;
    assert_eq!(written("8\n9\n", &[]).await, 4);
    // A statement that writes nothing says so.
    let deletion = server
        .post(&[])
        .body("DELETE FROM t WHERE a = 8")
        .send()
        .await
        .unwrap();
    let summary = deletion.headers()["x-clickhouse-summary"].to_str().unwrap();
    assert!(summary.contains(r#""written_rows":"0""#), "{summary}");
}
