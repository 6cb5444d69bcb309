//! What every Penstock binary shares: configuration, telemetry, health, HTTP manners, lifecycle.

pub mod config;
pub mod health;
pub mod problem;
