//! What tests of a whole node share.

use std::{net::SocketAddr, path::Path};

use service::config::{AdminConfig, Config, HttpConfig, Loaded, LogConfig, StoreConfig};

/// A node on free ports, with its log and its store in a folder, however full the disk is.
pub fn config(dir: &Path) -> Loaded {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let url = |name: &str| format!("file:{}", dir.join(name).display());
    let config = Config {
        http: HttpConfig { listen: any, ..HttpConfig::default() },
        admin: AdminConfig { listen: any, ..AdminConfig::default() },
        log: LogConfig { url: url("log"), min_free_bytes: 0, ..Default::default() },
        store: StoreConfig { url: url("store"), min_free_bytes: 0, ..Default::default() },
        ..Config::default()
    };
    Loaded { config, base_dir: dir.to_owned(), file: None }
}
