//! Where records come from and results go: one face for both kinds of delivery.

use std::{collections::BTreeMap, sync::Arc};

use eventlog::{
    AppendError, Delivery, Lease, Log, LogError, Position, Record, Subscription, TransactError,
    Transactor,
};
use service::config::DeliveryMode;

/// Bytes of records in a request of at-least-once delivery: a log takes no more at once than all producers may have
/// under way (16 MiB by default).
const REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// The input of a processor, with its output.
pub(super) enum Feed {
    /// Outputs and positions move as one.
    ExactlyOnce(Transactor),
    /// Outputs first, then positions: what was not committed is written again.
    AtLeastOnce(Log, Subscription),
}

impl Feed {
    /// Joins the group.
    pub(super) async fn open(
        log: &Log,
        group: &str,
        topic: &str,
        mode: DeliveryMode,
        transactional_id: String,
    ) -> Result<Self, LogError> {
        let subscription = log.subscribe(group, &[topic]).await?;
        Ok(match mode {
            DeliveryMode::ExactlyOnce => {
                Self::ExactlyOnce(subscription.into_transactional(transactional_id).await?)
            }
            DeliveryMode::AtLeastOnce => Self::AtLeastOnce(log.clone(), subscription),
        })
    }

    /// Waits for what comes next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Delivery, LogError> {
        match self {
            Self::ExactlyOnce(transactor) => transactor.next().await,
            Self::AtLeastOnce(_, subscription) => subscription.next().await,
        }
    }

    /// Writes outputs and commits positions. After `Aborted` the partitions come again by
    /// themselves; after any other error the feed must be opened anew, because nothing says
    /// where it stands.
    pub(super) async fn commit(
        &mut self,
        outputs: Vec<(Arc<str>, Record)>,
        positions: &[(Lease, Position)],
    ) -> Result<(), TransactError> {
        match self {
            Self::ExactlyOnce(transactor) => transactor.commit(outputs, positions).await,
            Self::AtLeastOnce(log, subscription) => {
                let mut topics: BTreeMap<Arc<str>, Vec<Record>> = BTreeMap::new();
                for (topic, record) in outputs {
                    topics.entry(topic).or_default().push(record);
                }
                for (topic, records) in topics {
                    append(log, &topic, records).await?;
                }
                Ok(subscription.commit(positions).await?)
            }
        }
    }

    /// Leaves the group in good order.
    pub(super) async fn close(self) -> Result<(), LogError> {
        match self {
            Self::ExactlyOnce(transactor) => transactor.close().await,
            Self::AtLeastOnce(_, subscription) => subscription.close().await,
        }
    }
}

/// Appends all or says why not. What was stored before an error is stored again by the next try.
async fn append(log: &Log, topic: &str, records: Vec<Record>) -> Result<(), LogError> {
    for records in requests(records) {
        for result in log.append(topic, records).await {
            match result {
                Ok(_) => {}
                Err(AppendError::Refused(detail)) => {
                    return Err(LogError::Fatal(format!("{topic} refuses a record: {detail}")));
                }
                Err(AppendError::Retry(detail) | AppendError::Unknown(detail)) => {
                    return Err(LogError::Retry(detail));
                }
            }
        }
    }
    Ok(())
}

/// Records in requests of at most [`REQUEST_BYTES`], or of one record.
fn requests(mut records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut requests = Vec::new();
    while !records.is_empty() {
        let mut bytes = 0;
        let fits = records.iter().take_while(|record| {
            bytes += record.size();
            bytes <= REQUEST_BYTES
        });
        let rest = records.split_off(fits.count().max(1));
        requests.push(std::mem::replace(&mut records, rest));
    }
    requests
}

#[cfg(test)]
mod tests {
    use eventlog::Headers;

    use super::*;

    #[test]
    fn a_request_takes_what_a_log_has_room_for() {
        let of = |bytes: usize| Record {
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Headers::default(),
        };
        let sizes = |of: &[Vec<Record>]| of.iter().map(Vec::len).collect::<Vec<_>>();
        let half = REQUEST_BYTES / 2 - 100;
        let records = vec![of(half), of(half), of(half), of(2 * REQUEST_BYTES), of(1), of(1)];
        assert_eq!(sizes(&requests(records)), [2, 1, 1, 2]);
        assert!(requests(Vec::new()).is_empty());
    }
}
