//! Cohorts for the sample projects, so that there is something to look at.

/// A cohort of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cohort {
    /// UUID text, lower-case.
    pub id: &'static str,
    /// Its project.
    pub project: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// JSON text.
    pub definition: &'static str,
}

/// Of different kinds; the second refers to the first.
pub const COHORTS: [Cohort; 4] = [
    Cohort {
        id: "0c5f7a11-6d3e-4f0a-9a51-3f2f1b7c9d01",
        project: "3d9c1f52-7a0e-4b6d-9f18-c25e60a7b841",
        name: "Buyers",
        definition: r#"{"type":"AND","values":[{"type":"event","event_name":"order_completed","count_operator":"gte","count":1,"time_window_days":365}]}"#,
    },
    Cohort {
        id: "0c5f7a11-6d3e-4f0a-9a51-3f2f1b7c9d02",
        project: "3d9c1f52-7a0e-4b6d-9f18-c25e60a7b841",
        name: "Looked and never bought",
        definition: r#"{"type":"AND","values":[{"type":"event","event_name":"product_viewed","count_operator":"gte","count":1,"time_window_days":365},{"type":"cohort","cohort_id":"0c5f7a11-6d3e-4f0a-9a51-3f2f1b7c9d01","negated":true}]}"#,
    },
    Cohort {
        id: "0c5f7a11-6d3e-4f0a-9a51-3f2f1b7c9d03",
        project: "3d9c1f52-7a0e-4b6d-9f18-c25e60a7b841",
        name: "On the plan pro",
        definition: r#"{"type":"AND","values":[{"type":"person_property","property":"plan","operator":"eq","value":"pro"}]}"#,
    },
    Cohort {
        id: "0c5f7a11-6d3e-4f0a-9a51-3f2f1b7c9d04",
        project: "c80a65d3-92f7-4e1b-b3d4-5f17ac6e0938",
        name: "From a page to a report",
        definition: r#"{"type":"AND","values":[{"type":"event_sequence","steps":[{"event_name":"$pageview"},{"event_name":"report_created"}],"time_window_days":365}]}"#,
    },
];
