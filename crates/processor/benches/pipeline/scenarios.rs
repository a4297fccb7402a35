//! What is measured: one row per scenario.

/// One kind of traffic, and what is done with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Known persons: they, their mappings, their keys in Redis and a tenth of overrides are there before.
    pub(crate) persons: u64,
    /// Entries of a drain; what is sent at a rate lasts for a time instead.
    pub(crate) events: usize,
    pub(crate) mix: Mix,
    pub(crate) kind: Kind,
    /// Run only when it is named.
    pub(crate) by_name_only: bool,
}

/// How events reach the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All are in the stream before the worker starts.
    Drain,
    /// The same from so many streams on a Redis Cluster, by as many instances.
    Shared(usize),
    /// So many a second while the worker runs.
    Trickle(u32),
    /// So many a second, and ClickHouse stands still for a while.
    CatchUp(u32),
    /// No events: the commands of the program, over the events of all persons.
    Commands,
}

/// What events are, in thousandths; the rest are plain events of known persons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mix {
    /// An `$identify` of a known person, which also sets two properties. Every other one names an anonymous visitor who
    /// has had events, if there is one left; the others an id that was never seen.
    pub(crate) identify: u64,
    /// Of a known person, setting two properties.
    pub(crate) set: u64,
    /// Of anonymous visitors, five events each.
    pub(crate) anonymous: u64,
    /// Of a distinct id of its own.
    pub(crate) new: u64,
    /// Sent once more: half of them at once, half of them 15,000 entries later.
    pub(crate) duplicate: u64,
    /// Each has half as many events and persons as the one before it.
    pub(crate) projects: usize,
    /// 100 properties of 80 bytes instead of six.
    pub(crate) wide: bool,
}

const KNOWN: Mix = Mix {
    identify: 0,
    set: 0,
    anonymous: 0,
    new: 0,
    duplicate: 0,
    projects: 1,
    wide: false,
};

/// As real traffic has it.
const REAL: Mix = Mix {
    identify: 10,
    set: 50,
    anonymous: 100,
    ..KNOWN
};

const PERSONS: u64 = 20_000;
const EVENTS: usize = 200_000;

const fn drain(name: &'static str, about: &'static str, mix: Mix) -> Scenario {
    Scenario {
        name,
        about,
        persons: PERSONS,
        events: EVENTS,
        mix,
        kind: Kind::Drain,
        by_name_only: false,
    }
}

const fn mix_of(name: &'static str, about: &'static str, persons: u64) -> Scenario {
    Scenario {
        persons,
        ..drain(name, about, REAL)
    }
}

const fn at_a_rate(name: &'static str, about: &'static str, kind: Kind) -> Scenario {
    Scenario {
        kind,
        ..drain(name, about, REAL)
    }
}

const fn shared(name: &'static str, about: &'static str, streams: usize) -> Scenario {
    Scenario {
        events: 400_000,
        ..at_a_rate(name, about, Kind::Shared(streams))
    }
}

const fn by_name_only(scenario: Scenario) -> Scenario {
    Scenario {
        by_name_only: true,
        ..scenario
    }
}

/// Every scenario, in the order in which they are run and shown.
pub(crate) const SCENARIOS: &[Scenario] = &[
    drain("known", "known persons only", KNOWN),
    drain("writes", "5 % set properties", Mix { set: 50, ..KNOWN }),
    drain(
        "identify-1",
        "1 % $identify, 1 % of anonymous visitors",
        Mix {
            identify: 10,
            anonymous: 10,
            ..KNOWN
        },
    ),
    drain(
        "identify-20",
        "20 % $identify, 10 % of anonymous visitors",
        Mix {
            identify: 200,
            anonymous: 100,
            ..KNOWN
        },
    ),
    drain("new", "every event of a new person", Mix { new: 1000, ..KNOWN }),
    Scenario {
        events: 40_000,
        ..drain("wide", "100 properties, 8 KB", Mix { wide: true, ..KNOWN })
    },
    drain(
        "projects",
        "12 projects, each half as large as the one before",
        Mix { projects: 12, ..REAL },
    ),
    drain(
        "duplicates",
        "10 % sent twice",
        Mix {
            duplicate: 100,
            ..KNOWN
        },
    ),
    drain("mix", "1 % $identify, 10 % anonymous, 5 % set properties", REAL),
    mix_of("mix-1m", "the mix over a million persons", 1_000_000),
    by_name_only(mix_of("mix-10k", "the mix over 10,000 persons", 10_000)),
    by_name_only(mix_of("mix-100k", "the mix over 100,000 persons", 100_000)),
    by_name_only(mix_of("mix-10m", "the mix over ten million persons", 10_000_000)),
    shared("streams-1", "the mix, one stream on a cluster", 1),
    shared("streams-2", "the mix, two streams and instances", 2),
    shared("streams-4", "the mix, four streams and instances", 4),
    at_a_rate("trickle-20", "20 events/s of the mix", Kind::Trickle(20)),
    at_a_rate("trickle-100", "100 events/s of the mix", Kind::Trickle(100)),
    at_a_rate("trickle-1k", "1,000 events/s of the mix", Kind::Trickle(1_000)),
    at_a_rate("trickle-10k", "10,000 events/s of the mix", Kind::Trickle(10_000)),
    at_a_rate(
        "catch-up",
        "10,000 events/s of the mix, ClickHouse stands still for a while",
        Kind::CatchUp(10_000),
    ),
    Scenario {
        kind: Kind::Commands,
        persons: 100_000,
        ..drain(
            "commands",
            "a cycle over five cohorts, and what operators ask",
            KNOWN,
        )
    },
];
