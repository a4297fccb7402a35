//! What a user agent means, under the names that ua-parser-js 2 uses, remembered by its text.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::user_agent_rules::{browser, device, system};

/// A recognised user agent. Empty where nothing was recognised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Agent {
    /// `Chrome`, `Mobile Safari`, …
    pub browser: String,
    /// Its version, as far as the text gives one.
    pub browser_version: String,
    /// `Windows`, `macOS`, `iOS`, …
    pub os: String,
    /// Its version.
    pub os_version: String,
    /// `mobile`, `tablet`, `smarttv`, `console`, `wearable`, `embedded`, `xr`; `desktop` where a browser was recognised
    /// and none of these.
    pub device_type: String,
}

impl Agent {
    /// Reads a user agent. Linear in its length; what lies beyond the first 2 KiB is not looked at.
    pub fn parse(text: &str) -> Self {
        let text = head(text, LONGEST_READ);
        let (browser, browser_version) = browser(text).unwrap_or_default();
        let (os, os_version) = system(text).unwrap_or_default();
        let device_type = match device(text) {
            "" if !browser.is_empty() => "desktop",
            device => device,
        };
        Self {
            browser,
            browser_version,
            os,
            os_version,
            device_type: device_type.into(),
        }
    }
}

/// Bytes of a user agent that are read.
const LONGEST_READ: usize = 2048;
/// Longer texts are read each time: remembering them would let a client fill the memory.
const LONGEST_REMEMBERED: usize = 1024;

fn head(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    &text[..end]
}

/// Reads user agents and remembers them.
pub struct UserAgents {
    known: Cache<Box<str>, Arc<Agent>>,
}

impl UserAgents {
    /// Remembers this many.
    pub fn new(capacity: usize) -> Self {
        Self {
            known: Cache::new(capacity),
        }
    }

    /// What a user agent means.
    pub fn parse(&self, text: &str) -> Arc<Agent> {
        if text.len() > LONGEST_REMEMBERED {
            return Arc::new(Agent::parse(text));
        }
        if let Some(agent) = self.known.get(text) {
            return agent;
        }
        let agent = Arc::new(Agent::parse(text));
        self.known.insert(text.into(), agent.clone());
        agent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str) -> [String; 5] {
        let agent = Agent::parse(text);
        [
            agent.browser,
            agent.browser_version,
            agent.os,
            agent.os_version,
            agent.device_type,
        ]
    }

    #[test]
    fn mainstream_agents_have_the_names_that_analysts_know() {
        let table = include_str!("../tests/data/user-agents.tsv");
        let mut wrong = Vec::new();
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            let found = fields(columns[0]);
            if found[..] != columns[1..] {
                wrong.push(format!(
                    "{}\n  expected {:?}\n  found    {found:?}",
                    columns[0],
                    &columns[1..]
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn scripts_and_bots_without_a_browser_have_no_device_type() {
        for text in [
            "CustomBot/1.0",
            "curl/8.4.0",
            "python-requests/2.31",
            "node",
            "Go-http-client/1.1",
            "",
        ] {
            assert_eq!(fields(text), ["", "", "", "", ""], "{text}");
        }
    }

    #[test]
    fn absurd_input_takes_no_absurd_time() {
        for piece in ["(", "Chrome/", "; ", "Version/1.", "Mozilla/5.0 (X11; "] {
            let text = piece.repeat((1 << 20) / piece.len());
            let before = Instant::now();
            let _agent = Agent::parse(&text);
            assert!(before.elapsed().as_millis() < 50, "{piece}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let agents = UserAgents::new(10);
            prop_assert_eq!(&*agents.parse(&text), &Agent::parse(&text));
        }
    }
}
