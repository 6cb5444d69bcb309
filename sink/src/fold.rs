//! Folding events into rollup rows: absolute values, one row for each window and group that this
//! partition adds to.
//!
//! The invariant: a row is folded in log order from what the store has, and never twice by one
//! record: a row remembers the last offset folded in, and a replay skips up to it. A row
//! that is dirty, or on its way to the store, is never forgotten here.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use eventlog::Position;
use schemas::{Event, Extractor, Path, Scalar};

use crate::{
    group::write_value,
    store::{Aggregate, Definition, RollupKey, RollupRow, VersionId},
};

/// Clean rows are forgotten beyond so many.
const MAX_ROWS: usize = 32_768;

/// Folds one partition of one epoch.
pub(crate) struct Folder {
    plans: Arc<[Arc<Plan>]>,
    epoch: u32,
    partition: u32,
    /// Namespace and group text, length-prefixed, to the group, for each plan.
    groups: Vec<HashMap<Box<[u8]>, Arc<Group>>>,
    rows: Vec<Row>,
    index: HashMap<RowId, u32>,
    dirty: Vec<u32>,
    next_group: u32,
    /// Of the batch at hand: what each event adds to which row, and the rows not loaded yet.
    additions: Vec<Addition>,
    numbers: Vec<Option<f64>>,
    missing: Vec<u32>,
    scratch: Vec<u8>,
}

/// A definition made ready to fold.
#[derive(Debug)]
pub(crate) struct Plan {
    name: Arc<str>,
    pub(crate) version: VersionId,
    kind: Option<String>,
    windows: Vec<i64>,
    /// Takes the values of the aliases, then those of the measures.
    extractor: Extractor,
    aliases: usize,
    /// For each measure, whether it is of the event's time, as microseconds.
    measures: Vec<bool>,
}

#[derive(Debug)]
struct Group {
    id: u32,
    namespace: Arc<str>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RowId {
    group: u32,
    window: i64,
    start: i64,
}

#[derive(Debug)]
struct Row {
    id: RowId,
    plan: usize,
    group: Arc<Group>,
    count: u64,
    measures: Vec<Aggregate>,
    last_offset: Option<u64>,
    dirty: bool,
}

#[derive(Clone, Copy, Debug)]
struct Addition {
    row: u32,
    offset: u64,
    /// Where its numbers begin; as many as the row has measures.
    numbers: usize,
}

impl Plan {
    /// # Errors
    /// A path that cannot be read, which [`crate::definitions()`] refuses before.
    pub(crate) fn new(definition: &Definition) -> Result<Self, String> {
        let paths = definition.group_by.values();
        let paths = paths.chain(definition.measures.values().map(|m| &m.field));
        let paths: Vec<Path> = paths.map(|p| Path::parse(p)).collect::<Result<_, _>>()?;
        Ok(Self {
            name: definition.name.clone(),
            version: definition.version(),
            kind: definition.kind.clone(),
            windows: definition.windows.clone(),
            extractor: Extractor::new(&paths),
            aliases: definition.group_by.len(),
            measures: definition.measures.values().map(|m| m.field == "time").collect(),
        })
    }

    pub(crate) fn folds(&self, event: &Event) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == event.kind)
    }

    /// The numbers that a row's measures take, from what was extracted.
    fn numbers(
        &self,
        event: &Event,
        found: &[Option<Scalar>],
    ) -> impl Iterator<Item = Option<f64>> {
        let found = found.get(self.aliases..).unwrap_or_default();
        self.measures.iter().zip(found).map(|(&is_time, scalar)| match scalar {
            _ if is_time => Some(event.time.micros as f64), // exact until the year 2255
            scalar => scalar.as_ref()?.as_f64().filter(|n| n.is_finite()),
        })
    }
}

impl Folder {
    pub(crate) fn new(plans: Arc<[Arc<Plan>]>, epoch: u32, partition: u32) -> Self {
        Self {
            groups: plans.iter().map(|_| HashMap::new()).collect(),
            plans,
            epoch,
            partition,
            rows: Vec::new(),
            index: HashMap::new(),
            dirty: Vec::new(),
            next_group: 0,
            additions: Vec::new(),
            numbers: Vec::new(),
            missing: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Notes what an event adds, to be folded by [`Folder::fold`] once [`Folder::missing`] is loaded.
    pub(crate) fn add(&mut self, event: &Event, offset: Position) {
        let plans = self.plans.clone();
        for (number, plan) in plans.iter().enumerate().filter(|(_, p)| p.folds(event)) {
            let found = plan.extractor.extract(event);
            let group = self.group(number, event, found.get(..plan.aliases).unwrap_or_default());
            let numbers = self.numbers.len();
            self.numbers.extend(plan.numbers(event, &found));
            for &window in &plan.windows {
                let start = window_start(event.time.micros, window);
                let row = self.row(number, plan, RowId { group: group.id, window, start }, &group);
                self.additions.push(Addition { row, offset, numbers });
            }
        }
    }

    /// The rows that were touched for the first time, to be given to [`Folder::load`] in order.
    pub(crate) fn missing(&self) -> Vec<RollupKey> {
        self.missing
            .iter()
            .filter_map(|&r| self.rows.get(r as usize))
            .map(|r| self.key(r))
            .collect()
    }

    /// Takes what the store has of the missing rows.
    pub(crate) fn load(&mut self, found: Vec<Option<RollupRow>>) {
        for (number, found) in std::mem::take(&mut self.missing).into_iter().zip(found) {
            if let (Some(row), Some(found)) = (self.rows.get_mut(number as usize), found) {
                row.count = found.count;
                row.last_offset = Some(found.last_offset);
                for (mine, theirs) in row.measures.iter_mut().zip(found.measures) {
                    *mine = theirs;
                }
            }
        }
    }

    /// Folds what was noted.
    pub(crate) fn fold(&mut self) {
        for addition in self.additions.drain(..) {
            let Some(row) = self.rows.get_mut(addition.row as usize) else { continue };
            if row.last_offset.is_some_and(|last| last >= addition.offset) {
                continue;
            }
            row.last_offset = Some(addition.offset);
            row.count += 1;
            let numbers = &self.numbers[addition.numbers..];
            for (measure, number) in row.measures.iter_mut().zip(numbers) {
                if let Some(number) = number {
                    measure.add(*number);
                }
            }
            if !row.dirty {
                row.dirty = true;
                self.dirty.push(addition.row);
            }
        }
        self.numbers.clear();
    }

    /// How many rows changed since the last snapshot.
    pub(crate) fn dirty_rows(&self) -> usize {
        self.dirty.len()
    }

    /// The rows that changed, as they are now; from here on they count as clean.
    pub(crate) fn snapshot(&mut self) -> Vec<RollupRow> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut snapshot = Vec::with_capacity(dirty.len());
        for number in dirty {
            let Some(row) = self.rows.get_mut(number as usize) else { continue };
            row.dirty = false;
            let row = &self.rows[number as usize];
            snapshot.push(RollupRow {
                key: self.key(row),
                count: row.count,
                measures: row.measures.clone(),
                last_offset: row.last_offset.unwrap_or(0),
            });
        }
        snapshot
    }

    /// Forgets clean rows when there are too many. Only when no snapshot is on its way to the
    /// store and no event is noted, or a row would be loaded older than it is.
    pub(crate) fn forget(&mut self) {
        if self.rows.len() <= MAX_ROWS || !self.additions.is_empty() {
            return;
        }
        self.rows.retain(|row| row.dirty);
        self.index = self.rows.iter().zip(0..).map(|(row, number)| (row.id, number)).collect();
        self.dirty = (0..self.rows.len() as u32).collect();
        let used: HashSet<u32> = self.rows.iter().map(|row| row.group.id).collect();
        for groups in &mut self.groups {
            groups.retain(|_, group| used.contains(&group.id));
        }
    }

    fn group(&mut self, number: usize, event: &Event, values: &[Option<Scalar>]) -> Arc<Group> {
        let scratch = &mut self.scratch;
        scratch.clear();
        scratch.extend_from_slice(&(event.namespace.len() as u32).to_be_bytes());
        scratch.extend_from_slice(event.namespace.as_bytes());
        let text = scratch.len();
        scratch.push(b'[');
        for (n, value) in values.iter().enumerate() {
            if n > 0 {
                scratch.push(b',');
            }
            write_value(value.as_ref(), scratch);
        }
        scratch.push(b']');
        if let Some(group) = self.groups[number].get(&scratch[..]) {
            return group.clone();
        }
        let group = Arc::new(Group {
            id: self.next_group,
            namespace: event.namespace.clone(),
            text: String::from_utf8_lossy(&scratch[text..]).into_owned(),
        });
        self.next_group += 1;
        self.groups[number].insert(scratch[..].into(), group.clone());
        group
    }

    fn row(&mut self, number: usize, plan: &Plan, id: RowId, group: &Arc<Group>) -> u32 {
        if let Some(&row) = self.index.get(&id) {
            return row;
        }
        let row = self.rows.len() as u32;
        self.rows.push(Row {
            id,
            plan: number,
            group: group.clone(),
            count: 0,
            measures: vec![Aggregate::default(); plan.measures.len()],
            last_offset: None,
            dirty: false,
        });
        self.index.insert(id, row);
        self.missing.push(row);
        row
    }

    fn key(&self, row: &Row) -> RollupKey {
        let plan = &self.plans[row.plan];
        RollupKey {
            namespace: row.group.namespace.clone(),
            rollup: plan.name.clone(),
            version: plan.version,
            window: row.id.window,
            start: row.id.start,
            group: row.group.text.clone(),
            epoch: self.epoch,
            partition: self.partition,
        }
    }
}

/// Windows align to the Unix epoch; window 0 holds all time and starts at 0.
pub(crate) fn window_start(time: i64, window: i64) -> i64 {
    if window == 0 { 0 } else { time.div_euclid(window).saturating_mul(window) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{definition, flight};

    const HOUR: i64 = 3_600_000_000;

    fn folder() -> Folder {
        let plans = [Arc::new(Plan::new(&definition()).expect("valid"))];
        Folder::new(Arc::from(plans), 1, 0)
    }

    fn fold(folder: &mut Folder, events: &[(Event, u64)]) {
        events.iter().for_each(|(event, offset)| folder.add(event, *offset));
        let none = folder.missing().iter().map(|_| None).collect();
        folder.load(none);
        folder.fold();
    }

    fn shown(rows: Vec<RollupRow>) -> Vec<(i64, String, u64, f64, u64)> {
        let show = |r: RollupRow| {
            (r.key.start / HOUR, r.key.group, r.count, r.measures[0].sum, r.last_offset)
        };
        let mut rows: Vec<_> = rows.into_iter().map(show).collect();
        rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        rows
    }

    #[test]
    fn events_add_to_the_row_of_their_window_and_group() {
        let mut folder = folder();
        fold(
            &mut folder,
            &[
                (flight("a", HOUR, "UA", 5.0), 0),
                (flight("b", 2 * HOUR - 1, "UA", -2.0), 1),
                (flight("c", 2 * HOUR, "UA", 1.0), 2),
                (flight("d", HOUR, "EV", 7.0), 4),
            ],
        );
        assert_eq!(
            shown(folder.snapshot()),
            [
                (1, r#"["EV"]"#.to_owned(), 1, 7.0, 4),
                (1, r#"["UA"]"#.to_owned(), 2, 3.0, 1),
                (2, r#"["UA"]"#.to_owned(), 1, 1.0, 2),
            ]
        );
    }

    #[test]
    fn a_row_goes_on_from_what_the_store_has_and_skips_what_was_folded() {
        let mut first = folder();
        fold(&mut first, &[(flight("a", 0, "UA", 5.0), 3), (flight("b", 0, "UA", 6.0), 5)]);
        let stored = first.snapshot();

        let mut second = folder();
        for (event, offset) in [
            (flight("a", 0, "UA", 5.0), 3),
            (flight("b", 0, "UA", 6.0), 5),
            (flight("c", 0, "UA", 7.0), 6),
        ] {
            second.add(&event, offset);
        }
        assert_eq!(second.missing(), [stored[0].key.clone()]);
        second.load(stored.into_iter().map(Some).collect());
        second.fold();
        assert_eq!(shown(second.snapshot()), [(0, r#"["UA"]"#.to_owned(), 3, 18.0, 6)]);
    }

    #[test]
    fn only_rows_that_changed_are_in_a_snapshot() {
        let mut folder = folder();
        fold(&mut folder, &[(flight("a", 0, "UA", 1.0), 0), (flight("b", 0, "EV", 1.0), 1)]);
        folder.snapshot();
        fold(&mut folder, &[(flight("c", 0, "EV", 1.0), 2)]);
        assert_eq!(shown(folder.snapshot()), [(0, r#"["EV"]"#.to_owned(), 2, 2.0, 2)]);
    }

    #[test]
    fn events_of_another_type_add_nothing() {
        let mut folder = folder();
        let event = Event { kind: "other".into(), ..flight("a", 0, "UA", 1.0) };
        fold(&mut folder, &[(event, 0)]);
        assert_eq!(folder.snapshot(), []);
    }

    #[test]
    fn namespaces_have_rows_of_their_own() {
        let mut folder = folder();
        let other = Event { namespace: "other".into(), ..flight("a", 0, "UA", 1.0) };
        fold(&mut folder, &[(flight("a", 0, "UA", 1.0), 0), (other, 1)]);
        assert_eq!(folder.snapshot().len(), 2);
    }

    #[test]
    fn an_event_without_the_number_counts_but_measures_nothing() {
        let mut folder = folder();
        let event = Event { data: schemas::Data::None, ..flight("a", 0, "UA", 1.0) };
        fold(&mut folder, &[(event, 0)]);
        let row = folder.snapshot().remove(0);
        assert_eq!((row.count, row.measures[0].count), (1, 0));
        assert_eq!(row.key.group, "[null]");
    }

    #[test]
    fn forgetting_keeps_dirty_rows_and_loads_the_others_again() {
        let mut folder = folder();
        let many: Vec<_> =
            (0..=MAX_ROWS as u64).map(|n| (flight("a", n as i64 * HOUR, "UA", 1.0), n)).collect();
        fold(&mut folder, &many);
        folder.snapshot();
        fold(&mut folder, &[(flight("b", 0, "UA", 1.0), 1_000_000)]);
        folder.forget();
        assert_eq!(folder.rows.len(), 1);
        folder.add(&flight("c", HOUR, "UA", 1.0), 1_000_001);
        folder.add(&flight("d", 0, "UA", 1.0), 1_000_002);
        assert_eq!(folder.missing().iter().map(|k| k.start).collect::<Vec<_>>(), [HOUR]);
        folder.load(vec![None]);
        folder.fold();
        let counts: Vec<u64> = folder.snapshot().iter().map(|r| r.count).collect();
        assert_eq!(counts, [3, 1]);
    }

    #[test]
    fn windows_before_1970_begin_before_their_events() {
        assert_eq!(window_start(-1, HOUR), -HOUR);
        assert_eq!(window_start(-HOUR, HOUR), -HOUR);
        assert_eq!(window_start(123, 0), 0);
    }
}
