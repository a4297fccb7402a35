//! What the benchmarks have in common: where the worker is, and questions to ClickHouse.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::ffi::OsString;

/// The worker that is measured: `BENCH_WORKER`, or the one that was built with the benchmark.
pub(crate) fn worker() -> OsString {
    std::env::var_os("BENCH_WORKER").unwrap_or_else(|| env!("CARGO_BIN_EXE_qurvo-processor").into())
}

pub(crate) fn resident_bytes(pid: i32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or_default() * 1024.0
}

pub(crate) async fn ask(http: &reqwest::Client, env: &[(String, String)], sql: &str) -> String {
    let of = |name: &str| env.iter().find(|(key, _)| key == name).unwrap().1.clone();
    let answer = http
        .post(format!(
            "{}/?database={}",
            of("CLICKHOUSE_URL"),
            of("CLICKHOUSE_DB")
        ))
        .basic_auth(of("CLICKHOUSE_USER"), Some(of("CLICKHOUSE_PASSWORD")))
        .body(sql.to_owned())
        .send()
        .await
        .unwrap();
    let fine = answer.status().is_success();
    let text = answer.text().await.unwrap();
    assert!(fine, "{text}");
    text.trim().to_owned()
}
