//! Sorting records into partitions and encoding them, on the caller's thread, so that the writer's
//! thread only has to put chunks together.

use std::sync::Arc;

use super::{
    chunk::{CHUNK_BYTES, Segment},
    queue::{Part, Touched, Write},
    topic::Topic,
};
use crate::Record;

/// Records on their way into a [`Write`].
#[derive(Default)]
pub(crate) struct Prepared {
    pub size: usize,
    pub topics: Vec<Touched>,
    /// The partition for records without a key, by place in `topics`.
    keyless: Vec<u32>,
    parts: Vec<(usize, Part)>,
}

impl Prepared {
    /// The write of what was added, to be synced.
    pub fn into_write(self) -> Write {
        let parts = self.parts.into_iter().map(|(_, part)| part).collect();
        Write { topics: self.topics, parts, sync: true, size: self.size, ..Write::default() }
    }

    /// The partition of each part, in order.
    pub fn partitions(&self) -> Vec<u32> {
        self.parts.iter().map(|(_, part)| part.partition.index).collect()
    }

    /// Adds a record; answers which part it went to and its place there.
    pub fn push(&mut self, topic: &Arc<Topic>, record: &Record) -> (usize, u64) {
        let at = self.topics.iter().position(|t| t.topic.id == topic.id).unwrap_or_else(|| {
            self.topics.push(Touched { topic: topic.clone(), records: 0, bytes: 0 });
            self.keyless.push(topic.keyless());
            self.topics.len() - 1
        });
        let index = topic.place(record.key.as_deref(), self.keyless[at]);
        let size = record.size();
        self.size += size + 32;
        self.topics[at].records += 1;
        self.topics[at].bytes += size as u64;
        let known = self.parts.iter().position(|(t, p)| *t == at && p.partition.index == index);
        let which = known.unwrap_or_else(|| {
            let partition = topic.partitions[index as usize].clone();
            self.parts.push((at, Part { partition, segments: Vec::new() }));
            self.parts.len() - 1
        });
        let segments = &mut self.parts[which].1.segments;
        let place = segments.iter().map(|s| u64::from(s.count)).sum();
        match segments.last_mut().filter(|s| s.payload.len() + size <= CHUNK_BYTES) {
            Some(segment) => segment.push(record),
            None => {
                let mut segment = Segment::default();
                segment.push(record);
                segments.push(segment);
            }
        }
        (which, place)
    }
}
