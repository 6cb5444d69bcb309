//! Other people's programs, pinned in `conformance/`, installed once and kept from run to run.
//!
//! Where they cannot be installed, the tests that need them say that they were skipped; where `CI` is
//! set, that is a failure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// A configuration with a rollup, so that its routes have something to answer.
pub const ROLLUP: &str = r#"
[[rollups]]
name = "orders"
type = "order.placed"
windows = ["1h"]
group_by = { carrier = "data.carrier" }
measures = { delay = { field = "data.delay", of = ["sum", "avg"] } }
"#;

/// The folder of the scripts and of what they need.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// Runs a program to its end.
///
/// # Errors
/// It fails; then with all that it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success(), "{command:?} failed:\n{}", said.concat());
    Ok(said.concat())
}

/// The folder `name` below `all`, in which what the file `pins` asks for was installed once, for as
/// long as it asks for that.
///
/// # Errors
/// It cannot be installed.
pub fn installed(
    all: &Path,
    name: &str,
    pins: &str,
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let dir = all.join(name);
    let (mark, pins) = (dir.join("installed"), fs::read_to_string(scripts().join(pins))?);
    if fs::read_to_string(&mark).is_ok_and(|found| found == pins) {
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir); // it may not be there
    fs::create_dir_all(&dir)?;
    install(&dir)?;
    fs::write(mark, pins)?;
    Ok(dir)
}

/// The programs of a Python with the packages that the file `pins` asks for, in a folder of the test
/// that asks.
///
/// # Errors
/// There is no Python, or the packages cannot be had.
pub fn python(all: &Path, name: &str, pins: &str) -> Result<PathBuf> {
    let dir = installed(all, name, pins, |dir| {
        run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(Command::new(dir.join("bin/python")).args(pip).arg(scripts().join(pins)))?;
        Ok(())
    })?;
    Ok(dir.join("bin"))
}

/// What was prepared, or nothing where that is allowed.
///
/// # Panics
/// It could not be prepared, and `CI` is set.
pub fn or_skip<T>(prepared: Result<T>) -> Option<T> {
    match prepared {
        Ok(prepared) => Some(prepared),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: {error:#}");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}
