//! What is said of the sender.

use crate::config::Resource;

/// The tags of everything that is sent, by Datadog's names.
pub(super) fn tags(resource: &Resource) -> Vec<(String, String)> {
    let mut tags = vec![
        ("service".to_owned(), resource.service.clone()),
        ("version".to_owned(), resource.version.clone()),
    ];
    tags.extend(
        resource
            .environment
            .iter()
            .map(|value| ("env".to_owned(), value.clone())),
    );
    tags.push(("consumer".to_owned(), resource.instance.clone()));
    tags.extend(resource.others.iter().cloned());
    tags
}
