//! The configuration of all services: one `penstock.toml`, overridden by the environment.
//!
//! [`load`] is the only way in: it reads the file, lays the environment over it, checks how the
//! settings fit together and resolves relative paths, so that the rest of the process can trust
//! what it gets. It reports every mistake it can find, each with its place, because a person
//! fixing a file wants to fix it once. What only another crate can check (a program, a path into
//! an event) finds its place in [`Config::origins`]. [`show`] is the only way out: it masks secrets.

mod check;
pub mod duration;
mod instance;
mod load;
mod mistake;
mod origins;
mod settings;
mod show;
mod urls;
mod words;

pub use self::{
    check::{MAX_ALIASES, MEASURES, check_name, check_rollups, check_topic},
    instance::Instance,
    load::{Loaded, load, load_here, load_keys, load_keys_here, read_here},
    mistake::{ConfigError, Mistake, Origin, closest},
    origins::Origins,
    settings::*,
    show::{is_secret_property, show},
    urls::{Shared, check_log_url, check_store_url, masked_url},
    words::without_value,
};
