//! What has to be known of all replicas: a row that one of them has taken may not be on another yet.
//!
//! Where a cluster is configured, all replicas are asked. One that is away is passed over: a row that it alone has is
//! inserted a second time then, and merged with the first when it is back. ClickHouse Cloud's tables are shared; there a
//! replica is told to know all before it answers.

use std::sync::Arc;

use tokio::sync::OnceCell;

/// A replica that is away is passed over.
const PASS_OVER: &str = "skip_unavailable_shards";
/// A replica of shared tables finds out what all others know before it answers.
const KNOW_ALL: &str = "select_sequential_consistency";
/// The cluster of all replicas in ClickHouse Cloud.
const OF_CLOUD: &str = "default";

/// How replicas are asked.
#[derive(Clone, Default)]
pub(super) struct Replicas {
    /// As configured.
    pub(super) cluster: Option<Arc<str>>,
    /// Whether tables are shared, once that is known.
    pub(super) shared: Arc<OnceCell<bool>>,
}

impl Replicas {
    pub(super) fn new(cluster: Option<&str>) -> Self {
        Self {
            cluster: cluster.map(Into::into),
            shared: Arc::default(),
        }
    }

    /// What stands for a table of a database in a query of all replicas, and the setting that goes with it.
    pub(super) fn place(
        &self,
        database: &str,
        table: &str,
        is_shared: bool,
    ) -> (String, Option<&'static str>) {
        let is_system = table.starts_with("system.");
        let cluster = match &self.cluster {
            Some(cluster) => Some(&**cluster),
            None => Some(OF_CLOUD).filter(|_| is_shared && is_system),
        };
        match cluster {
            Some(cluster) if is_system => (
                format!("clusterAllReplicas('{cluster}', {table})"),
                Some(PASS_OVER),
            ),
            Some(cluster) => {
                let all = format!("clusterAllReplicas('{cluster}', `{database}`.{table})");
                (all, Some(PASS_OVER))
            }
            None => (table.to_owned(), is_shared.then_some(KNOW_ALL)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_asked_where_its_rows_may_be() {
        for (cluster, table, is_shared, place, setting) in [
            (None, "events", false, "events", None),
            (None, "system.processes", false, "system.processes", None),
            (None, "events", true, "events", Some(KNOW_ALL)),
            (
                None,
                "system.processes",
                true,
                "clusterAllReplicas('default', system.processes)",
                Some(PASS_OVER),
            ),
            (
                Some("c"),
                "events",
                false,
                "clusterAllReplicas('c', `d`.events)",
                Some(PASS_OVER),
            ),
        ] {
            let expected = (place.to_owned(), setting);
            assert_eq!(Replicas::new(cluster).place("d", table, is_shared), expected);
        }
    }
}
