//! The numbers of this process, in one place, whoever reads them: Prometheus, an OTLP collector, a Datadog agent.
//!
//! What is counted goes through the macros of the crate `metrics`; while nothing is installed they do nothing.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use ::metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_util::registry::{Registry, Storage};

use super::names::{Kind, METRICS, Metric};

/// The numbers, once they are counted.
static NUMBERS: OnceLock<Registry<Key, Cells>> = OnceLock::new();

/// A metric and its series, as they are at a moment.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) metric: &'static Metric,
    /// At least one.
    pub(crate) series: Vec<Series>,
}

/// One series: the values of its labels, and its own.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// In the order of their names.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: Value,
}

/// What a series says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Since the process began.
    Counter(f64),
    Gauge(f64),
    /// Since the process began; one more bucket than bounds, the last for what is above them all.
    Histogram {
        bounds: &'static [f64],
        buckets: Vec<Bucket>,
    },
}

/// What fell between two bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Bucket {
    /// How many values.
    pub(crate) count: u64,
    /// Their sum.
    pub(crate) sum: f64,
}

/// Has the macros of the crate `metrics` write here.
///
/// # Errors
/// When they write somewhere already.
pub(crate) fn install() -> anyhow::Result<()> {
    if NUMBERS.set(Registry::new(Cells)).is_err() {
        anyhow::bail!("this process counts already");
    }
    ::metrics::set_global_recorder(Numbers)?;
    Ok(())
}

/// All numbers as they are now, in the order in which the metrics are declared; none while nothing is counted.
pub(crate) fn snapshot() -> Vec<Family> {
    let Some(numbers) = NUMBERS.get() else {
        return Vec::new();
    };
    let mut found: BTreeMap<String, Vec<Series>> = BTreeMap::new();
    let number = |cell: &AtomicU64| f64::from_bits(cell.load(Relaxed));
    let mut add = |key: &Key, value: Value| {
        let mut labels: Vec<(String, String)> = key
            .labels()
            .map(|label| (label.key().to_owned(), label.value().to_owned()))
            .collect();
        labels.sort();
        let series = Series { labels, value };
        found.entry(key.name().to_owned()).or_default().push(series);
    };
    numbers.visit_counters(|key, cell| add(key, Value::Counter(cell.load(Relaxed) as f64)));
    numbers.visit_gauges(|key, cell| add(key, Value::Gauge(number(cell))));
    numbers.visit_histograms(|key, cells| add(key, cells.value()));
    let mut families = Vec::new();
    for metric in METRICS {
        let Some(mut series) = found.remove(metric.name) else {
            continue;
        };
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        // A count with a fraction is kept as a gauge.
        for Series { value, .. } in &mut series {
            if let (Kind::Counter, Value::Gauge(number)) = (metric.kind, &value) {
                *value = Value::Counter(*number);
            }
        }
        families.push(Family { metric, series });
    }
    families
}

/// Takes a gauge away that nothing is known of: no value is better than an old one.
pub(super) fn forget_gauge(key: &Key) {
    if let Some(numbers) = NUMBERS.get() {
        numbers.delete_gauge(key);
    }
}

/// What the macros of the crate `metrics` write to.
struct Numbers;

impl Recorder for Numbers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        NUMBERS.get().map_or_else(Counter::noop, |numbers| {
            numbers.get_or_create_counter(key, |cell| Counter::from_arc(cell.clone()))
        })
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        NUMBERS.get().map_or_else(Gauge::noop, |numbers| {
            numbers.get_or_create_gauge(key, |cell| Gauge::from_arc(cell.clone()))
        })
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        NUMBERS.get().map_or_else(Histogram::noop, |numbers| {
            numbers.get_or_create_histogram(key, |cells| Histogram::from_arc(cells.clone()))
        })
    }
}

/// Makes the cells that hold numbers.
struct Cells;

impl Storage<Key> for Cells {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Buckets>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, key: &Key) -> Self::Histogram {
        let declared = METRICS.iter().find(|metric| metric.name == key.name());
        Arc::new(Buckets::new(match declared.map(|metric| metric.kind) {
            Some(Kind::Histogram(bounds)) => bounds,
            _ => &[],
        }))
    }
}

/// Counts and sums of values, by where they fall.
struct Buckets {
    bounds: &'static [f64],
    cells: Vec<(AtomicU64, AtomicU64)>,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        let cells = (0..=bounds.len()).map(|_| Default::default()).collect();
        Self { bounds, cells }
    }

    fn value(&self) -> Value {
        let buckets = self.cells.iter().map(|(count, sum)| Bucket {
            count: count.load(Relaxed),
            sum: f64::from_bits(sum.load(Relaxed)),
        });
        Value::Histogram {
            bounds: self.bounds,
            buckets: buckets.collect(),
        }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, times: usize) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        let (count, sum) = &self.cells[place];
        count.fetch_add(times as u64, Relaxed);
        let more = value * times as f64;
        let add = |bits: u64| Some((f64::from_bits(bits) + more).to_bits());
        // Never fails: it always says what to write.
        let _before = sum.fetch_update(Relaxed, Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_whose_bound_it_does_not_exceed() {
        let buckets = Buckets::new(&[1.0, 10.0]);
        for value in [0.5, 1.0, 1.5] {
            buckets.record(value);
        }
        buckets.record_many(11.0, 3);
        let Value::Histogram { bounds, buckets } = buckets.value() else {
            panic!("a histogram");
        };
        assert_eq!(bounds, [1.0, 10.0]);
        let counts: Vec<u64> = buckets.iter().map(|bucket| bucket.count).collect();
        let sums: Vec<f64> = buckets.iter().map(|bucket| bucket.sum).collect();
        assert_eq!((counts, sums), (vec![2, 1, 3], vec![1.5, 1.5, 33.0]));
    }
}
