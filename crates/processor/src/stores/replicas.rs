//! What has to be known of all replicas: a row that one of them has taken may not be on another yet.
//!
//! Where a cluster is configured, all replicas are asked. One that is away is passed over: a row that it alone has is
//! inserted a second time then, and merged with the first when it is back. ClickHouse Cloud's tables are shared; there a
//! replica is told to know all before it answers.

use std::sync::Arc;

use clickhouse::query::Query;
use tokio::sync::OnceCell;

use super::{ClickHouse, StoreError};

/// The cluster of all replicas in ClickHouse Cloud.
const OF_CLOUD: &str = "default";

/// How replicas are asked.
#[derive(Clone, Default)]
pub(super) struct Replicas {
    /// As configured.
    cluster: Option<Arc<str>>,
    /// Whether tables are shared, once that is known.
    shared: Arc<OnceCell<bool>>,
}

impl Replicas {
    pub(super) fn new(cluster: Option<&str>) -> Self {
        Self {
            cluster: cluster.map(Into::into),
            shared: Arc::default(),
        }
    }
}

impl ClickHouse {
    /// A query of a table (`events`, `system.processes`) as all replicas have it together. In its text the table is `@`.
    /// Rows may come from several replicas: what is asked has to be the same however often a row is there.
    ///
    /// # Errors
    /// When it is not known yet how replicas are to be asked, and the engine does not say.
    pub async fn query_of_all_replicas(&self, sql: &str, table: &str) -> Result<Query, StoreError> {
        let is_shared = match self.replicas.cluster {
            Some(_) => false,
            None => *self.replicas.shared.get_or_try_init(|| self.is_shared()).await?,
        };
        let is_system = table.starts_with("system.");
        let cluster = match &self.replicas.cluster {
            Some(cluster) => Some(&**cluster),
            None => Some(OF_CLOUD).filter(|_| is_shared && is_system),
        };
        let Some(cluster) = cluster else {
            let query = self.query(&sql.replace('@', table));
            return Ok(if is_shared {
                query.with_setting("select_sequential_consistency", "1")
            } else {
                query
            });
        };
        let name = if is_system {
            table.to_owned()
        } else {
            format!("`{}`.{table}", self.database())
        };
        let all = format!("clusterAllReplicas('{cluster}', {name})");
        let query = self.query(&sql.replace('@', &all));
        Ok(query.with_setting("skip_unavailable_shards", "1"))
    }

    async fn is_shared(&self) -> Result<bool, StoreError> {
        let sql = "SELECT count() > 0 FROM system.tables
                   WHERE database = currentDatabase() AND name = 'events' AND startsWith(engine, 'Shared')";
        self.row("looking for replicas", self.query(sql)).await
    }
}
