//! From something that happens to a line: fills in what the SDK and the ingest service add to an event.

use serde_json::{Value, json};

use super::actor::Device;
use super::content;
use crate::line::Line;
use crate::projects::PROJECTS;
use crate::random::Random;

/// A line that is not yet in stream order.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Event time, milliseconds since 1970.
    pub(crate) at: i64,
    /// When ingest wrote it, milliseconds since 1970.
    pub(crate) arrival: i64,
    pub(crate) line: Line,
}

/// What the events of one sitting share.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) project: usize,
    pub(crate) device: Device,
    session_id: String,
    batch_id: String,
    page: (&'static str, &'static str),
    referrer: &'static str,
    /// An SDK that parses the user agent itself.
    parses_agent: bool,
    /// Read from a file by an import: no address, no user agent, no screen.
    imported: bool,
    /// A device without network: its events arrive together, this much later.
    offline_ms: Option<i64>,
}

impl Visit {
    /// A sitting at `device`.
    pub(crate) fn new(random: &mut Random, project: usize, device: Device) -> Self {
        let imported = random.chance(20);
        let batch_id = match (imported, random.chance(600)) {
            (true, _) => format!("import-{}", random.uuid()),
            (false, true) => random.uuid().to_string(),
            (false, false) => String::new(),
        };
        Self {
            project,
            device,
            session_id: random.uuid().to_string(),
            batch_id,
            page: ("/", "Start"),
            referrer: random.pick(&crate::vocabulary::REFERRERS),
            parses_agent: random.chance(150),
            imported,
            offline_ms: random.chance(40).then(|| random.between(300_000, 3 * 86_400_000)),
        }
    }

    /// The same sitting with a network at hand: its events arrive in order.
    pub(crate) fn online(mut self) -> Self {
        self.offline_ms = None;
        self
    }

    /// Goes to another page.
    pub(crate) fn turn_to(&mut self, page: (&'static str, &'static str)) {
        self.page = page;
    }

    /// Where the visitor came from.
    pub(crate) fn referrer(&self) -> &'static str {
        self.referrer
    }
}

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) struct Happening<'a> {
    pub(crate) name: &'a str,
    pub(crate) at: i64,
    pub(crate) distinct_id: &'a str,
    pub(crate) anonymous_id: &'a str,
    /// Null when there is none.
    pub(crate) user_properties: Value,
}

/// Makes the line of what happens during a visit.
pub(crate) fn draft(random: &mut Random, visit: &Visit, happening: Happening<'_>) -> Draft {
    let Happening {
        name,
        at,
        distinct_id,
        anonymous_id,
        user_properties,
    } = happening;
    let mut line = Line::new()
        .with("event_id", random.uuid().to_string())
        .with("project_id", PROJECTS[visit.project].id)
        .with("event_name", name)
        .with("event_type", event_type(name))
        .with("distinct_id", distinct_id);
    let user_id = if name == "$identify" { distinct_id } else { "" };
    for (field, value) in [
        ("anonymous_id", anonymous_id),
        ("user_id", user_id),
        ("session_id", &visit.session_id),
        ("batch_id", &visit.batch_id),
    ] {
        if !value.is_empty() {
            line.put(field, value);
        }
    }
    place(&mut line, visit);
    device(&mut line, visit);
    line.put("properties", content::properties(random, name));
    if user_properties.is_object() {
        line.put("user_properties", user_properties);
    } else if random.chance(300) {
        line.put("user_properties", json!({}));
    }
    // The time is put in when all are known, so that no two events share one.
    line.put("timestamp", "");
    let arrival = match visit.offline_ms {
        Some(late) => at + late,
        None => at + random.between(50, 2500),
    };
    Draft { at, arrival, line }
}

fn event_type(name: &str) -> &'static str {
    match name {
        "$identify" => "identify",
        "$pageview" => "pageview",
        "$pageleave" => "pageleave",
        "$set" | "$set_once" => "set",
        "$screen" => "screen",
        _ => "track",
    }
}

fn place(line: &mut Line, visit: &Visit) {
    let (path, title) = visit.page;
    line.put("url", format!("https://{}{path}", PROJECTS[visit.project].host));
    line.put("page_path", path);
    line.put("page_title", title);
    if path == "/" && !visit.referrer.is_empty() {
        line.put("referrer", visit.referrer);
    }
}

fn device(line: &mut Line, visit: &Visit) {
    if visit.imported {
        return;
    }
    let Device { agent, place, ip, .. } = &visit.device;
    if visit.parses_agent {
        let names = ["browser", "browser_version", "os", "os_version", "device_type"];
        for (name, value) in names.into_iter().zip(agent.parsed) {
            line.put(name, value);
        }
    }
    line.put("user_agent", agent.header);
    let (width, height) = agent.screen;
    if visit.parses_agent {
        line.put("screen_width", width.to_string());
        line.put("screen_height", height.to_string());
    } else {
        line.put("screen_width", width);
        line.put("screen_height", height);
    }
    line.put("language", place.language);
    line.put("timezone", place.timezone);
    line.put("ip", ip.as_str());
    line.put(
        "sdk_name",
        if visit.project == 1 {
            "qurvo-react-native"
        } else {
            "qurvo-browser"
        },
    );
    line.put("sdk_version", "1.4.2");
}
