//! Consumers outside groups, kept for a while between uses: making one costs a thread for each broker
//! and a round of greetings.

use std::{
    ops::Deref,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    client::Clients,
    errors::tell,
    observe::{Observer, Role, locked},
};
use crate::LogError;

/// An idle consumer is not polled, so what it has to tell gathers in it: not for longer than this.
const IDLE: Duration = Duration::from_secs(30);
/// The most that wait idle.
const MOST: usize = 4;

/// A place for idle consumers.
pub(super) struct Readers {
    clients: Arc<Clients>,
    idle: Mutex<Vec<(Instant, BaseConsumer<Observer>)>>,
}

/// A consumer on loan; it goes back when this is dropped, or ends if it was spoiled.
pub(super) struct Loan {
    readers: Arc<Readers>,
    consumer: Option<BaseConsumer<Observer>>,
}

impl Readers {
    pub fn new(clients: Arc<Clients>) -> Arc<Self> {
        Arc::new(Self { clients, idle: Mutex::default() })
    }

    /// An idle consumer, or a new one; it reads nothing yet.
    pub fn take(self: &Arc<Self>) -> Result<Loan, LogError> {
        let idle = locked(&self.idle).pop();
        let consumer = match idle {
            Some((_, consumer)) => {
                listen(&consumer);
                consumer
            }
            None => make(&self.clients, None)?,
        };
        Ok(Loan { readers: self.clone(), consumer: Some(consumer) })
    }

    /// Ends those that nobody used for a while.
    pub fn prune(&self) {
        let old: Vec<_> = {
            let mut idle = locked(&self.idle);
            let fresh = idle.partition_point(|(since, _)| since.elapsed() >= IDLE);
            idle.drain(..fresh).collect()
        };
        if !old.is_empty() {
            super::bury(old);
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        super::bury(std::mem::take(&mut *locked(&self.idle)));
    }
}

/// A consumer that assigns itself, or asks for a group's positions.
pub(super) fn make(
    clients: &Clients,
    group: Option<&str>,
) -> Result<BaseConsumer<Observer>, LogError> {
    let mut config = clients.reader(group);
    config.set("statistics.interval.ms", "0");
    create(clients, &config)
}

/// A client that only asks.
pub(super) fn lookup(clients: &Clients) -> Result<BaseConsumer<Observer>, LogError> {
    create(clients, &clients.lookup())
}

fn create(clients: &Clients, config: &ClientConfig) -> Result<BaseConsumer<Observer>, LogError> {
    config.create_with_context(clients.observer(Role::Reader)).map_err(|error| {
        let told = tell(&error);
        LogError::Fatal(format!("no consumer can be made with these log.properties: {told}"))
    })
}

/// Lets a consumer that reads nothing say what it has to; bounded.
pub(super) fn listen(consumer: &BaseConsumer<Observer>) {
    (0..1000).take_while(|_| consumer.poll(Duration::ZERO).is_some()).for_each(drop);
}

impl Loan {
    /// It must not be used again.
    pub fn spoil(mut self) {
        if let Some(consumer) = self.consumer.take() {
            super::bury(consumer);
        }
    }
}

impl Deref for Loan {
    type Target = BaseConsumer<Observer>;

    fn deref(&self) -> &Self::Target {
        match &self.consumer {
            Some(consumer) => consumer,
            None => unreachable!("it is taken out only when it is dropped"),
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        if consumer.unassign().is_err() {
            return super::bury(consumer);
        }
        let mut idle = locked(&self.readers.idle);
        if idle.len() < MOST {
            idle.push((Instant::now(), consumer));
        } else {
            drop(idle);
            super::bury(consumer);
        }
    }
}
