//! The `penstock` binary: see [`penstock::cli`].

fn main() -> std::process::ExitCode {
    penstock::cli::main()
}
