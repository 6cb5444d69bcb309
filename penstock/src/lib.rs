//! Penstock in one process, and its operators' command line.
//!
//! [`cli`] is the face: it parses, calls one of the commands below, and turns the outcome into an
//! exit code and a message. [`node`] is the house with everything in it; [`run`] keeps one running
//! from a configuration, [`demo`] from a bundled one with sample data; [`post`] is the producer's
//! side and speaks nothing but HTTP; [`schemas`] is the author's of contracts, likewise;
//! [`keys`] makes what both sides share, and [`remote`] is the server that they speak to.

pub mod cli;
pub mod demo;
pub mod keys;
pub mod node;
pub mod post;
pub mod remote;
pub mod run;
pub mod schemas;

/// Prints a line for people. Unlike `println!`, a reader that has gone (`| head`) is no panic.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}
pub(crate) use say;
