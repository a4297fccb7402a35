//! What an entry does not say itself: where an address is, what a user agent means.

use enrichment::geo::GeoIp;
use enrichment::user_agent::{Agent, UserAgents};
use stream_reply::Entry;

use crate::event::Field;
use crate::event::field::recorded_place;

/// Fields of a row's agent, in the order of [`Enrichment::with_agent`].
const AGENT: [Field; 5] = [
    Field::DeviceType,
    Field::Browser,
    Field::BrowserVersion,
    Field::Os,
    Field::OsVersion,
];

/// Looks both up.
#[derive(Clone)]
pub(crate) struct Enrichment {
    /// GeoIP database, when there is one.
    pub geo: GeoIp,
    /// User agents.
    pub agents: std::sync::Arc<UserAgents>,
}

impl Enrichment {
    /// Calls `use_place` with country, region and city: those that a dead letter knows, else those of the address.
    pub(crate) fn with_place<R>(&self, entry: Entry<'_>, use_place: impl FnOnce([&str; 3]) -> R) -> R {
        match recorded_place(entry) {
            Some(told) => use_place(told),
            None => self.geo.with_place(Field::Ip.of(entry), |place| {
                use_place([place.country, place.region, place.city])
            }),
        }
    }

    /// Calls `use_agent` with device type, browser, its version, system, its version. Each of the five by itself: what the
    /// entry says, else what its user agent means.
    pub(crate) fn with_agent<R>(&self, entry: Entry<'_>, use_agent: impl FnOnce([&str; 5]) -> R) -> R {
        let told = AGENT.map(|field| field.of(entry));
        let raw = Field::UserAgent.of(entry);
        if raw.is_empty() || !told.contains(&"") {
            return use_agent(told);
        }
        let agent = self.agents.parse(raw);
        let Agent {
            browser,
            browser_version,
            os,
            os_version,
            device_type,
        } = &*agent;
        let meant: [&str; 5] = [device_type, browser, browser_version, os, os_version];
        let mut both = told;
        for (told, meant) in both.iter_mut().zip(meant) {
            if told.is_empty() {
                *told = meant;
            }
        }
        use_agent(both)
    }
}
