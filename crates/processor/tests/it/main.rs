//! The worker as a process, against real Redis, real PostgreSQL and ClickHouse's real engine.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests speak to Redis beside the worker, by connections of their own"
)]

mod answers;
mod attaching;
mod blamed;
mod bounds;
mod bounds_large;
mod checks;
mod cohorts;
mod columns;
mod command_output;
mod commands;
mod contract_page;
mod costs;
mod crashes;
mod dead_letters;
mod definitions;
mod doors;
mod engine_codes;
mod failure_scripts;
mod forgetting;
mod glossary;
mod held;
mod holding;
mod hostile;
mod identity;
mod inserts;
mod lab;
mod lasting_failures;
mod lasting_states;
mod lifecycle;
mod liveness;
mod locks;
mod logs;
mod lying;
mod metrics;
mod migrations;
mod misconfigurations;
mod numbers_move;
mod once;
mod outages;
mod parts;
mod probes;
mod projects;
mod publishing;
mod reach;
mod readers;
mod reading_ahead;
mod recoveries;
mod rejects;
mod samples;
mod signals;
mod slow_statements;
mod status;
mod status_costs;
mod status_fields;
mod streams;
mod support;
mod suspects;
mod telemetry;
mod terminal;
mod times;
mod trimming;
mod truth;
mod truth_beside;
mod truth_large;
mod truth_restored;
mod unanswered;
mod waiting;
mod watching;
mod wrong_types;
