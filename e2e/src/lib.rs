//! What the end-to-end tests share: the real binary as a process, a producer that retries as a
//! good client does, a reader that pages through everything, and a disk that forgets.
//!
//! The tests assert only on what users can see: HTTP answers, exit codes, and what a process prints.

pub mod disk;
pub mod process;
pub mod producer;
pub mod reader;
