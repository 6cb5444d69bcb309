//! The commands of `docs/HTTP.md`, pasted into bash against nodes of their own, in the order of the page.
//!
//! Behind each `curl` the page says `# STATUS` or `# STATUS CODE`: the status of the answer, and a code
//! that its body names. Commands that need a key find it in `PENSTOCK_KEY` and the like, and ask a node
//! that has keys.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::{
    key::{Made, made},
    process::Site,
};

const PAGE: &str = include_str!("../../docs/HTTP.md");

/// `curl` as the page calls it, with the status behind the answer, and a record separator behind that.
const CURL: &str = r#"
curl() { command curl --silent --show-error --max-time 30 --write-out $'\n%{http_code}\x1e' "$@"; }
"#;
const SEPARATOR: char = '\u{1e}';

/// How long what was posted may take until it can be read.
const VISIBLE: Duration = Duration::from_secs(20);

/// Codes that no command brings about: they take a server in trouble, another configuration, or a
/// client that has left.
const TAKES_MORE: [&str; 21] = [
    "50001",
    "50002",
    "501",
    "busy",
    "deadline",
    "incomplete_body",
    "internal",
    "invalid_token",
    "issuer_keys_unavailable",
    "outcome_unknown",
    "overloaded",
    "refused_by_log",
    "rollup_incomplete",
    "starting",
    "store_failed",
    "store_unavailable",
    "too_many_connections",
    "too_many_requests_at_once",
    "unavailable",
    "unknown_type",
    "unusable_schema",
];

/// What the page promises of one `curl`.
#[derive(Debug, PartialEq)]
struct Promise<'p> {
    status: &'p str,
    code: Option<&'p str>,
}

impl<'p> Promise<'p> {
    /// Of a line that ends in a comment of that form.
    fn of(line: &'p str) -> Option<Self> {
        let (command, comment) = line.rsplit_once("# ")?;
        let (status, code) = comment.trim_end().split_once(' ').unwrap_or((comment.trim_end(), ""));
        let promised = status.len() == 3 && status.bytes().all(|digit| digit.is_ascii_digit());
        let code = Some(code).filter(|code| !code.is_empty());
        (promised && !command.trim().is_empty()).then_some(Self { status, code })
    }

    /// Whether an answer, with its status behind it, is the promised one.
    fn kept(&self, answer: &str) -> bool {
        let Some((answer, status)) = answer.rsplit_once('\n') else { return false };
        status == self.status
            && self.code.is_none_or(|code| {
                let member = [format!("code\":\"{code}\""), format!("error_code\":{code},")];
                member.iter().any(|member| answer.contains(member))
            })
    }
}

/// The blocks of the page in a language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    PAGE.match_indices("```").step_by(2).filter_map(move |(at, _)| {
        let inside = PAGE[at..].strip_prefix(&fence)?;
        Some(inside.split_once("```")?.0)
    })
}

/// Whether a block can be tried again.
fn only_reads(block: &str) -> bool {
    !["-d ", "--data", "-X ", "-T "].iter().any(|option| block.contains(option))
}

/// Pastes a block, and holds the answers against what it promises.
fn paste(block: &str, site: &Site, keys: &[(String, String)]) -> Result<usize> {
    let promises: Vec<_> = block.lines().filter_map(Promise::of).collect();
    let text = block
        .replace("127.0.0.1:8080", &site.http.to_string())
        .replace("127.0.0.1:9090", &site.admin.to_string());
    let script = format!("{CURL}{text}");
    let output = Command::new("bash")
        .args(["-c", &script])
        .envs(keys.iter().cloned())
        .output()
        .context("bash cannot be run")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<&str> = said.split_terminator(SEPARATOR).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        answers.len() == promises.len(),
        "{} answers, not {}, to\n{block}\n{said}\n{errors}",
        answers.len(),
        promises.len()
    );
    for (number, (promise, answer)) in promises.iter().zip(&answers).enumerate() {
        ensure!(
            promise.kept(answer),
            "{promise:?}, number {number} of\n{block}\n{answer}\n{errors}"
        );
    }
    Ok(promises.len())
}

/// A key with a scope, as an environment and as a configuration have it.
fn key(variable: &str, scope: &str, more: &str) -> Result<((String, String), String)> {
    let Made { secret, table } = made(variable, "shop", scope)?;
    Ok(((variable.to_owned(), secret), format!("{table}{more}\n")))
}

#[tokio::test]
async fn every_command_of_the_page_is_answered_as_it_says() {
    let configuration: String = blocks("toml").collect();
    let (keys, tables): (Vec<_>, Vec<_>) = [
        key("PENSTOCK_KEY", "operator", ""),
        key("READ_KEY", "read", ""),
        key("SLOW_KEY", "write", "rate = { bytes = 100, burst = \"10s\" }"),
    ]
    .into_iter()
    .map(Result::unwrap)
    .unzip();
    let (open, closed) = (Site::new(&configuration).unwrap(), Site::new(&tables.concat()).unwrap());
    let nodes = [open.start().await.unwrap(), closed.start().await.unwrap()];
    let commands = tokio::task::spawn_blocking(move || {
        let mut commands = 0;
        for block in blocks("sh") {
            let site = if block.contains("_KEY\"") { &closed } else { &open };
            let started = Instant::now();
            commands += loop {
                match paste(block, site, &keys) {
                    Err(_) if only_reads(block) && started.elapsed() < VISIBLE => {
                        std::thread::sleep(Duration::from_millis(200));
                    }
                    outcome => break outcome.unwrap(),
                }
            };
        }
        commands
    });
    let commands = commands.await.unwrap();
    println!("{commands} commands");
    assert!(commands > 100, "only {commands} commands were found");
    for node in nodes {
        node.stop().await.unwrap();
    }
}

/// The codes that the page's tables explain.
fn explained() -> BTreeSet<&'static str> {
    let mut codes = BTreeSet::new();
    let mut of_codes = false;
    for line in PAGE.lines() {
        let Some(cell) = line.strip_prefix("| ").and_then(|row| row.split(" | ").next()) else {
            of_codes &= line.starts_with('|');
            continue;
        };
        match of_codes {
            true => codes.extend(cell.split('`').skip(1).step_by(2)),
            false => of_codes = cell.starts_with("code") || cell == "`error_code`",
        }
    }
    codes
}

#[test]
fn every_code_of_the_page_has_a_command_unless_it_takes_more_than_that() {
    let shown: BTreeSet<_> =
        blocks("sh").flat_map(str::lines).filter_map(|line| Promise::of(line)?.code).collect();
    let explained = explained();
    assert!(explained.len() > 50, "{explained:?}");
    let silent: BTreeSet<_> = explained.difference(&shown).copied().collect();
    assert_eq!(silent, BTreeSet::from(TAKES_MORE));
}

#[test]
fn a_promise_is_a_comment_behind_a_command() {
    let promised = |status, code| Some(Promise { status, code });
    assert_eq!(Promise::of("curl -i x   # 202"), promised("202", None));
    assert_eq!(Promise::of("  -d '#'  # 422 invalid_data"), promised("422", Some("invalid_data")));
    assert_eq!(Promise::of("# 202 is good"), None);
    assert_eq!(Promise::of("curl -i x  # whatever"), None);
    let promise = Promise { status: "404", code: Some("40401") };
    assert!(promise.kept("{\"error_code\":40401,\"message\":\"\"}\n404"));
    assert!(!promise.kept("{\"error_code\":40402,\"message\":\"\"}\n404"));
    assert!(!promise.kept("{\"error_code\":40401,\"message\":\"\"}\n400"));
}
