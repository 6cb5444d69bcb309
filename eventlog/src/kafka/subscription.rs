//! A member of a group.

use std::sync::Arc;

use super::Core;
use crate::{LogError, SubscriptionDriver};

/// Joins a group.
pub(super) async fn subscribe(
    _core: Arc<Core>,
    _group: &str,
    _topics: &[&str],
) -> Result<Box<dyn SubscriptionDriver>, LogError> {
    Err(LogError::Fatal("groups are not built yet".into()))
}
