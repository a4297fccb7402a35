//! How fast the worker is under several kinds of traffic, what an event costs every process, and beside it what the
//! services allow at most: `./dev bench --help`, docs/performance.md.
//!
//! Private services on loopback, gone afterwards. The figures are printed, and stored in `target/bench`.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

mod arguments;
mod catch_up;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod drain;
mod figures;
mod limits;
mod load;
mod native;
mod recorder;
mod report;
mod scenarios;
mod seed;
mod send;
mod shared;
mod tables;
mod trickle;
mod usage;
mod worker;
mod world;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use report::{Machine, Outcome, Report};
use scenarios::{Kind, SCENARIOS, Scenario};
use world::World;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.list {
        for scenario in SCENARIOS {
            println!("{:<12} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let before = arguments.against.as_deref().map(Report::read).transpose()?;
    let report = match &arguments.read {
        Some(path) => Report::read(path)?,
        None => measured(arguments).await?,
    };
    println!("{}", tables::show(&report));
    if let Some(before) = before {
        if before.machine != report.machine {
            println!(
                "The other run was on another machine, or with other services: {:?}",
                before.machine
            );
        }
        println!("{}", tables::compare(&report, &before));
    }
    Ok(())
}

async fn measured(arguments: &Arguments) -> Result<Report, String> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let scenarios = arguments.scenarios()?;
    let mut report = None;
    for scenario in &scenarios {
        println!("{}: {}", scenario.name, scenario.about);
        let world = World::start(scenario.mix.projects).await;
        if report.is_none() {
            report = Some(Report::new(Machine::of(&world).await, arguments.runs));
        }
        let runs = measure(&world, scenario, arguments).await;
        let outcome = Outcome::of(scenario, figures::gathered(&runs));
        if let Some(report) = &mut report {
            report.scenarios.push(outcome);
            println!("  stored in {}", report.store().display());
        }
    }
    report.ok_or_else(|| "there is nothing to be run".to_owned())
}

async fn measure(world: &World, scenario: &Scenario, arguments: &Arguments) -> Vec<figures::Run> {
    seed::persons(world, scenario.persons, scenario.mix.projects).await;
    match scenario.kind {
        Kind::Drain => drain::measure(world, scenario, arguments).await,
        Kind::Shared(streams) => shared::measure(world, scenario, streams, arguments).await,
        Kind::Trickle(per_second) => trickle::measure(world, scenario, per_second, arguments).await,
        Kind::CatchUp(per_second) => catch_up::measure(world, scenario, per_second, arguments).await,
        Kind::Commands => commands::measure(world, scenario, arguments).await,
    }
}
