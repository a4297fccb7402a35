//! Numbers as Prometheus reads them: its text format, version 0.0.4.

use std::fmt::Write;

use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};

use crate::metrics::registry::{Family, Series, Value};

/// The text of all numbers.
pub(crate) fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for Family { metric, series } in families {
        write_help_line(&mut text, metric.name, None, None, metric.help);
        write_type_line(&mut text, metric.name, None, None, metric.kind.name());
        for series in series {
            write_series(&mut text, metric.name, series);
        }
        text.push('\n');
    }
    text
}

fn write_series(text: &mut String, name: &str, Series { labels, value }: &Series) {
    match value {
        Value::Counter(count) => line(text, name, labels, None, &count),
        Value::Gauge(number) => line(text, name, labels, None, &number),
        Value::Histogram { bounds, buckets } => {
            let (mut below, mut sum) = (0, 0.0);
            for (place, bucket) in buckets.iter().enumerate() {
                below += bucket.count;
                sum += bucket.sum;
                let bound = bounds.get(place).map_or("+Inf".to_owned(), f64::to_string);
                line(text, &format!("{name}_bucket"), labels, Some(&bound), &below);
            }
            line(text, &format!("{name}_sum"), labels, None, &sum);
            line(text, &format!("{name}_count"), labels, None, &below);
        }
    }
}

fn line(
    text: &mut String,
    name: &str,
    labels: &[(String, String)],
    bound: Option<&str>,
    value: &dyn std::fmt::Display,
) {
    text.push_str(name);
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (place, (label, value)) in labels.chain(bound.map(|bound| ("le", bound))).enumerate() {
        let before = if place == 0 { '{' } else { ',' };
        let _never_fails = write!(text, "{before}{label}=\"{}\"", sanitize_label_value(value));
    }
    let has_labels = !text.ends_with(name);
    let behind = if has_labels { "}" } else { "" };
    let _never_fails = writeln!(text, "{behind} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::registry::Bucket;
    use crate::metrics::{Kind, Metric};

    #[test]
    fn numbers_are_written_as_the_format_has_them() {
        static COUNTER: Metric = Metric::of("c_total", Kind::Counter, "Counts.");
        static HISTOGRAM: Metric = Metric::of("h_seconds", Kind::Histogram(&[0.5, 1.0]), "Times.");
        let label = |value: &str| vec![("of".to_owned(), value.to_owned())];
        let buckets = [(1, 0.25), (0, 0.0), (2, 6.0)].map(|(count, sum)| Bucket { count, sum });
        let families = [
            Family {
                metric: &COUNTER,
                series: vec![
                    Series {
                        labels: Vec::new(),
                        value: Value::Counter(3.0),
                    },
                    Series {
                        labels: label("a\"b\\c\nd"),
                        value: Value::Counter(4.0),
                    },
                ],
            },
            Family {
                metric: &HISTOGRAM,
                series: vec![Series {
                    labels: label("x"),
                    value: Value::Histogram {
                        bounds: &[0.5, 1.0],
                        buckets: buckets.to_vec(),
                    },
                }],
            },
        ];
        let expected = "# HELP c_total Counts.\n# TYPE c_total counter\nc_total 3\n\
                        c_total{of=\"a\\\"b\\\\c\\nd\"} 4\n\n\
                        # HELP h_seconds Times.\n# TYPE h_seconds histogram\n\
                        h_seconds_bucket{of=\"x\",le=\"0.5\"} 1\nh_seconds_bucket{of=\"x\",le=\"1\"} 1\n\
                        h_seconds_bucket{of=\"x\",le=\"+Inf\"} 3\nh_seconds_sum{of=\"x\"} 6.25\n\
                        h_seconds_count{of=\"x\"} 3\n\n";
        assert_eq!(text(&families), expected);
    }
}
