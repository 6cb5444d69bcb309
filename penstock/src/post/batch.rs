//! Lines of NDJSON cut into batches that fit a request.

use std::io::{self, BufRead, Read};

/// A batch is closed when it has this many bytes: a quarter of what the door takes by default.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// No event is that long; a file with such a line is something else than NDJSON.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

/// Events for one request, as NDJSON, and the lines they came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    body: Vec<u8>,
    /// For each event: the line of its file, from 1, and where it ends in `body`.
    events: Vec<(u64, usize)>,
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

/// Cuts an input into batches of at most `size` events. Empty lines are left out.
pub struct Batches<R> {
    input: R,
    size: usize,
    line: u64,
}

impl<R: BufRead> Batches<R> {
    /// Reads from `input`.
    pub fn new(input: R, size: usize) -> Self {
        Self { input, size, line: 0 }
    }

    fn read(&mut self) -> io::Result<Option<Batch>> {
        let mut batch = Batch::default();
        let mut line = Vec::new();
        while batch.len() < self.size && batch.body.len() < BATCH_BYTES {
            line.clear();
            if (&mut self.input).take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            self.line += 1;
            if line.len() as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
                let message = format!(
                    "line {} is longer than {LONGEST_LINE} bytes: one event per line is expected",
                    self.line
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            let event = line.trim_ascii();
            if !event.is_empty() {
                batch.push(self.line, event);
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
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
    fn a_line_without_end_is_refused() {
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        let error = Batches::new(endless, 10).next().unwrap().unwrap_err();
        assert!(error.to_string().contains("line 1 is longer"));
    }

    #[test]
    fn nothing_is_no_batch() {
        assert!(batches("\n\n", 10).is_empty());
    }
}
