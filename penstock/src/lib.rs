//! Penstock in one process, and its operators' command line.
//!
//! [`cli`] is the face: it parses, calls one of the commands below, and turns the outcome into an
//! exit code and a message. [`post`] is the producer's side.

pub mod cli;
pub mod post;
