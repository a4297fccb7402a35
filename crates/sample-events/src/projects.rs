//! The three projects that the samples belong to. The ids are fixed: databases and accounts refer to them.

/// A project of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Project {
    /// UUID text, lower-case.
    pub id: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// Web host, or the bundle id of an app.
    pub host: &'static str,
}

/// A shop, a mobile app and a business service.
pub const PROJECTS: [Project; 3] = [
    Project {
        id: "3d9c1f52-7a0e-4b6d-9f18-c25e60a7b841",
        name: "Nordlicht Shop",
        host: "nordlicht.example",
    },
    Project {
        id: "7b42e8a0-15cd-4f39-8e6b-0da9f3c71e26",
        name: "Полёт App",
        host: "app.polet.example",
    },
    Project {
        id: "c80a65d3-92f7-4e1b-b3d4-5f17ac6e0938",
        name: "Tally Cloud",
        host: "tally.example",
    },
];
