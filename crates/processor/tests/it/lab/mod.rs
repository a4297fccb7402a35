//! The laboratory: long runs in which much goes wrong, and the count afterwards. Each is passed over by the tests of every
//! day and run by `./dev lab`, which shows what it says.

mod cluster;
mod torrent;

use std::time::Instant;

/// Says what happens, and when, to the person who watches.
struct Journal(Instant);

impl Journal {
    fn begin() -> Self {
        Self(Instant::now())
    }

    #[allow(clippy::print_stdout, reason = "what the laboratory is run for")]
    fn says(&self, what: &str) {
        println!("{:>7.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

/// A number that may be set for a run, as `LAB_EVENTS=10000 ./dev lab`.
fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is not a number"))
    })
}
