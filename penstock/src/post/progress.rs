//! How far a post has come: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows events posted out of `total`, on stderr.
#[derive(Debug)]
pub struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    done: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Starts; `total` is the number of events, where it is known.
    pub fn new(what: &str, total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, total));
        let now = Instant::now();
        Self { what: what.to_owned(), bar, done: 0, started: now, last_line: now }
    }

    /// So many events more are answered.
    pub fn add(&mut self, events: u64) {
        self.done += events;
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                eprintln!("{}: {} events, {}/s", self.what, self.done, self.rate());
            }
            None => {}
        }
    }

    /// Takes the bar away; what comes next is printed below.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Events per second since the start.
    pub fn rate(&self) -> u64 {
        (self.done as f64 / self.started.elapsed().as_secs_f64().max(0.001)) as u64
    }
}

fn bar(what: &str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{prefix} {wide_bar} {human_pos}/{human_len} events, {per_sec}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{prefix} {spinner} {human_pos} events, {per_sec}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| match total {
        Some(_) => ProgressStyle::default_bar(),
        None => ProgressStyle::default_spinner(),
    });
    bar.with_style(style).with_prefix(what.to_owned())
}
