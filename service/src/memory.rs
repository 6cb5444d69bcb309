//! The allocator of every binary.
//!
//! A record is allocated on one thread and freed on another, in Rust and in librdkafka's C alike. glibc's
//! allocator pays for that with locks and keeps most of what was freed: with jemalloc a processor takes
//! a third less CPU and less memory. Its settings are in `.cargo/config.toml`.
//!
//! `bench/README.md` has the numbers.

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
