//! Where the codec finds schemas: in Penstock's own registry, or in one of another system.
//!
//! Looking never waits. What is not found, or does not fit, is to be learnt before it is given up;
//! see [`Lookup::learn`].

use crate::{Registry, RegistryError, codec::Wanted, external::External, framed::Framed};

/// One of the two; clones share it.
#[derive(Clone)]
pub enum Lookup {
    /// The registry in the log.
    Own(Registry),
    /// A registry that speaks the Confluent HTTP API.
    External(External),
}

/// The latest schema of a type, as far as it is known.
pub(crate) enum Latest {
    Is(Framed),
    /// The type has none.
    None,
    /// Nobody asked yet, or too long ago.
    Unresolved,
}

impl Lookup {
    pub(crate) fn latest(&self, namespace: &str, kind: &str) -> Latest {
        match self {
            Self::Own(registry) => {
                registry.latest_framed(namespace, kind).map_or(Latest::None, Latest::Is)
            }
            Self::External(external) => external.latest(namespace, kind),
        }
    }

    pub(crate) fn by_id(&self, id: u32) -> Option<Framed> {
        match self {
            Self::Own(registry) => registry.framed(id),
            Self::External(external) => external.by_id(id),
        }
    }

    /// Asks the registry as it is now: the whole of Penstock's own, of another just what is wanted.
    pub(crate) async fn learn(&self, wanted: &[Wanted]) -> Result<(), RegistryError> {
        match self {
            Self::Own(registry) => registry.refresh().await,
            Self::External(external) => external.learn(wanted).await,
        }
    }
}

impl From<Registry> for Lookup {
    fn from(registry: Registry) -> Self {
        Self::Own(registry)
    }
}

impl From<External> for Lookup {
    fn from(external: External) -> Self {
        Self::External(external)
    }
}
