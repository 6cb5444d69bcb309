//! Lines of NDJSON cut into batches that fit a request.

use std::{
    io::{self, BufRead, Read},
    mem,
};

use super::poster::Reject;

/// A batch is closed when it has this many bytes: a quarter of what the door takes by default.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// No event is longer. Longer lines are left out, and are never in memory as a whole.
const LONGEST_LINE: usize = 16 * 1024 * 1024;
/// What is kept of a line that is left out, to be found by.
const BEGINNING: usize = 256;
/// What some editors write at the beginning of a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Events for one request, as NDJSON, and the lines they came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    body: Vec<u8>,
    /// For each event: the line of its file, from 1, and where it ends in `body`.
    events: Vec<(u64, usize)>,
    /// The line after these events that is left out, if any.
    pub(super) too_long: Option<Reject>,
}

impl Batch {
    /// Adds an event, which must not hold a line break.
    pub fn push(&mut self, line: u64, event: &[u8]) {
        self.body.extend_from_slice(event);
        self.events.push((line, self.body.len()));
        self.body.push(b'\n');
    }

    /// The request's body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The line and the text of an event.
    pub fn event(&self, index: usize) -> Option<(u64, &[u8])> {
        let (line, end) = *self.events.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.events.get(before)?.1 + 1,
            None => 0,
        };
        Some((line, &self.body[start..end]))
    }

    /// Two halves of a batch of two events or more.
    pub fn halves(&self) -> (Self, Self) {
        let (mut first, mut second) = (Self::default(), Self::default());
        for index in 0..self.len() {
            if let Some((line, event)) = self.event(index) {
                let half = if index < self.len() / 2 { &mut first } else { &mut second };
                half.push(line, event);
            }
        }
        (first, second)
    }
}

/// Cuts an input into batches of at most `size` events. Empty lines are left out. A batch ends
/// at a line that is too long.
pub struct Batches<R> {
    input: R,
    size: usize,
    line: u64,
    /// Whether the input is within a line that is too long.
    within: bool,
}

impl<R: BufRead> Batches<R> {
    /// Reads from `input`.
    pub fn new(input: R, size: usize) -> Self {
        Self { input, size, line: 0, within: false }
    }

    fn read(&mut self) -> io::Result<Option<Batch>> {
        if mem::take(&mut self.within) {
            self.input.skip_until(b'\n')?;
        }
        let mut batch = Batch::default();
        let mut line = Vec::new();
        while batch.len() < self.size && batch.body.len() < BATCH_BYTES {
            line.clear();
            let most = LONGEST_LINE as u64 + 1; // with its end
            if (&mut self.input).take(most).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            self.line += 1;
            let text = match line.strip_prefix(BYTE_ORDER_MARK) {
                Some(text) if self.line == 1 => text,
                _ => &line,
            };
            if line.len() > LONGEST_LINE && line.last() != Some(&b'\n') {
                batch.too_long = Some(too_long(self.line, text));
                self.within = true;
                break;
            }
            let event = text.trim_ascii();
            if !event.is_empty() {
                batch.push(self.line, event);
            }
        }
        Ok((!batch.is_empty() || batch.too_long.is_some()).then_some(batch))
    }
}

fn too_long(line: u64, text: &[u8]) -> Reject {
    Reject {
        line,
        code: "event_too_large".into(),
        detail: format!(
            "the line is longer than {LONGEST_LINE} bytes and was not sent; here is its beginning"
        ),
        pointer: None,
        event: text[..BEGINNING].to_vec(),
    }
}

impl<R: BufRead> Iterator for Batches<R> {
    type Item = io::Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &str, size: usize) -> Vec<Batch> {
        Batches::new(text.as_bytes(), size).map(Result::unwrap).collect()
    }

    #[test]
    fn a_batch_remembers_the_lines_of_its_events() {
        let batches = batches("a\n\n  \nbb\r\nccc", 2);
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0].body(), b"a\nbb\n");
        assert_eq!(batches[0].event(1), Some((4, &b"bb"[..])));
        assert_eq!(batches[1].event(0), Some((5, &b"ccc"[..])));
        assert_eq!(batches[1].event(1), None);
    }

    #[test]
    fn halves_hold_every_event_once() {
        let (first, second) = batches("a\nb\nc\n", 10)[0].halves();
        assert_eq!((first.body(), second.body()), (&b"a\n"[..], &b"b\nc\n"[..]));
        assert_eq!(second.event(1), Some((3, &b"c"[..])));
    }

    #[test]
    fn a_batch_is_closed_at_its_size_in_bytes() {
        let line = format!("{}\n", "x".repeat(BATCH_BYTES / 2));
        assert_eq!(batches(&line.repeat(3), 10).len(), 2);
    }

    #[test]
    fn a_line_that_is_too_long_ends_a_batch_with_its_beginning_and_the_next_goes_on_behind_it() {
        let longest = "x".repeat(LONGEST_LINE);
        let batches = batches(&format!("a\n{longest}\ny{longest}\nb"), 10);
        assert_eq!(batches.len(), 3);
        assert_eq!((batches[0].len(), &batches[0].too_long), (2, &None), "it is closed by bytes");
        let cut = batches[1].too_long.as_ref().unwrap();
        assert!(batches[1].is_empty() && cut.detail.contains("16777216"), "{}", cut.detail);
        assert_eq!((cut.line, cut.event.len(), cut.event[0]), (3, BEGINNING, b'y'));
        assert_eq!(batches[2].event(0), Some((4, &b"b"[..])));
    }

    #[test]
    fn a_line_without_end_is_not_waited_for() {
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        let text = b"a\n".chain(endless);
        let batch = Batches::new(text, 10).next().unwrap().unwrap();
        assert_eq!(batch.body(), b"a\n");
        assert_eq!(batch.too_long.unwrap().line, 2);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_beginning_of_a_file_alone() {
        assert_eq!(batches("\u{feff}a\n\u{feff}b\n", 10)[0].body(), "a\n\u{feff}b\n".as_bytes());
        assert!(batches("\u{feff}\n", 10).is_empty());
    }

    #[test]
    fn nothing_is_no_batch() {
        assert!(batches("\n\n", 10).is_empty());
    }
}
