//! What tells the replicas of a service apart.

use std::sync::Arc;

use super::LogConfig;

/// Stands for the host's name in `log.instance`.
const HOSTNAME: &str = "@hostname";

/// A process among the replicas of its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Part of the names of its transactions.
    pub name: Arc<str>,
    /// Whether the configuration gave the name, so that the next start will have it too. A name
    /// made up for this run must never be taken for a place in a group.
    pub lasting: bool,
}

impl LogConfig {
    /// The instance that the configuration names, or one made up for this run.
    ///
    /// # Errors
    /// What is wrong with the name, and what to do.
    pub fn instance(&self) -> Result<Instance, String> {
        let name = match self.instance.as_deref() {
            None => {
                let name = uuid::Uuid::new_v4().simple().to_string()[..12].into();
                return Ok(Instance { name, lasting: false });
            }
            Some(HOSTNAME) => hostname()?,
            Some(name) => name.to_owned(),
        };
        match super::check_name(&name) {
            Ok(()) => Ok(Instance { name: name.into(), lasting: true }),
            Err(message) => Err(format!("{message}; or leave it out: replicas need no names")),
        }
    }
}

fn hostname() -> Result<String, String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    match name.trim() {
        "" => Err(format!("{HOSTNAME}: this system does not tell it; write a name instead")),
        name => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: Option<&str>) -> Result<Instance, String> {
        LogConfig { instance: name.map(str::to_owned), ..LogConfig::default() }.instance()
    }

    #[test]
    fn without_a_name_each_run_has_its_own() {
        let (one, other) = (instance(None).unwrap(), instance(None).unwrap());
        assert_ne!(one.name, other.name);
        assert!(!one.lasting);
    }

    #[test]
    fn a_name_lasts() {
        let named = instance(Some("sink-1")).unwrap();
        assert_eq!((&*named.name, named.lasting), ("sink-1", true));
    }

    #[test]
    fn the_hostname_is_asked_for_in_so_many_words() {
        let named = instance(Some("@hostname")).unwrap();
        assert!(named.lasting && !named.name.is_empty() && !named.name.contains('@'));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert!(instance(Some("a b")).unwrap_err().contains("`a b` is not a name"));
    }
}
