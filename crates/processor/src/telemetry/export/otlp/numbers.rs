//! Numbers as OTLP has them: counted since the process began, under the names that Prometheus reads.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric as MetricMessage, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::message::{attribute, scope};
use crate::metrics::registry::{Family, Series, Value};

/// All numbers, counted since `began`, as they are now.
pub(super) fn message(families: &[Family], began: SystemTime, resource: &Resource) -> ResourceMetrics {
    let times = (nanoseconds(began), nanoseconds(SystemTime::now()));
    ResourceMetrics {
        resource: Some(resource.clone()),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(scope()),
            metrics: families.iter().map(|family| metric(family, times)).collect(),
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    }
}

fn metric(Family { metric, series }: &Family, times: (u64, u64)) -> MetricMessage {
    let cumulative = AggregationTemporality::Cumulative as i32;
    let data = match series.first().map(|series| &series.value) {
        Some(Value::Counter(_)) => Data::Sum(Sum {
            data_points: series.iter().map(|series| number(series, times)).collect(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Some(Value::Histogram { .. }) => Data::Histogram(Histogram {
            data_points: series
                .iter()
                .filter_map(|series| histogram(series, times))
                .collect(),
            aggregation_temporality: cumulative,
        }),
        _ => Data::Gauge(Gauge {
            data_points: series.iter().map(|series| number(series, times)).collect(),
        }),
    };
    MetricMessage {
        name: metric.name.into(),
        description: metric.help.into(),
        unit: metric.unit().into(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn number(series: &Series, (began, now): (u64, u64)) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: began,
        time_unix_nano: now,
        value: Some(match series.value {
            Value::Counter(number) | Value::Gauge(number) => Number::AsDouble(number),
            Value::Histogram { .. } => Number::AsDouble(f64::NAN),
        }),
        ..NumberDataPoint::default()
    }
}

fn histogram(series: &Series, (began, now): (u64, u64)) -> Option<HistogramDataPoint> {
    let Value::Histogram { bounds, buckets } = &series.value else {
        return None;
    };
    Some(HistogramDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: began,
        time_unix_nano: now,
        count: buckets.iter().map(|bucket| bucket.count).sum(),
        sum: Some(buckets.iter().map(|bucket| bucket.sum).sum()),
        bucket_counts: buckets.iter().map(|bucket| bucket.count).collect(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}

fn attributes(series: &Series) -> Vec<KeyValue> {
    let labels = series.labels.iter();
    labels.map(|(name, value)| attribute(name, value)).collect()
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
