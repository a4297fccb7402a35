//! What every message says of the sender.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource as ResourceMessage;

use crate::config::Resource;

/// The program, as what makes the spans and counts.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}

/// The resource by the names of OpenTelemetry's conventions.
pub(super) fn message(resource: &Resource) -> ResourceMessage {
    let own = [
        ("service.name", &resource.service),
        ("service.version", &resource.version),
        ("service.instance.id", &resource.instance),
    ];
    let own = own.into_iter().map(|(name, value)| attribute(name, value));
    let environment = resource.environment.iter();
    let environment = environment.map(|value| attribute("deployment.environment.name", value));
    let others = resource.others.iter().map(|(name, value)| attribute(name, value));
    ResourceMessage {
        attributes: own.chain(environment).chain(others).collect(),
        ..ResourceMessage::default()
    }
}

pub(super) fn attribute(name: &str, value: &str) -> KeyValue {
    KeyValue {
        key: name.into(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.into())),
        }),
        ..KeyValue::default()
    }
}
