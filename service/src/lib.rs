//! What every Penstock binary shares: configuration, telemetry, health, HTTP manners, lifecycle.
//!
//! A service's life in this order: [`config`] is loaded and checked whole, [`telemetry`] starts,
//! the service binds its listeners through [`http`] and [`admin`], says of each part in
//! [`health`] how it is, and [`lifecycle`] tells it when to stop. Nothing here knows events,
//! topics or tables.

pub mod admin;
pub mod config;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod problem;
pub mod process;
pub mod telemetry;
