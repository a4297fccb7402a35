//! What every request to a store passes through: it is timed, and a span where something is traced.

use std::time::Instant;

use super::{Store, StoreError};
use crate::{metrics, traces};

/// A request, by what was being done.
pub(super) async fn asked<T>(
    store: Store,
    during: &'static str,
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let began = Instant::now();
    let answer = traces::request(store.label(), during, Box::pin(request)).await;
    if answer.is_ok() {
        metrics::operation(store.label(), during, began.elapsed());
    }
    answer
}
