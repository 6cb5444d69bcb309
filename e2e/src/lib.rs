//! What the end-to-end tests share: the real binaries as processes, alone ([`process`]) or as a
//! cluster on real backends ([`cluster`], [`backends`]), a producer that retries as a good client
//! does, readers that page through everything, and a disk that forgets.
//!
//! The tests assert only on what users can see: HTTP answers, exit codes, what a process prints, and
//! what a consumer reads from the topics.

pub mod backends;
pub mod chance;
pub mod cluster;
pub mod conformance;
pub mod disk;
pub mod key;
pub mod neighbour;
pub mod process;
pub mod producer;
pub mod reader;
pub mod topic;
