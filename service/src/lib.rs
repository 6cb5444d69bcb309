//! What every Penstock binary shares: configuration, telemetry, health, HTTP manners, lifecycle.
//!
//! A service's life in this order: [`cli`] reads the arguments, [`config`] is loaded and checked
//! whole, [`telemetry`] starts, the service binds its listeners through [`http`] and [`admin`],
//! opens what it needs with [`patience`], runs its parts in the stages of an [`app`], says of
//! each part in [`health`] how it is, and [`lifecycle`] tells it when to stop. Nothing here knows
//! events, topics or tables.

pub mod admin;
pub mod app;
pub mod auth;
pub mod backoff;
pub mod cli;
pub mod config;
pub mod fetch;
pub mod health;
pub mod http;
pub mod lifecycle;
mod memory;
pub mod openapi;
pub mod patience;
pub mod probe;
pub mod problem;
pub mod process;
pub mod stage;
pub mod telemetry;
