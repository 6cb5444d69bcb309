//! Expected beside got, as a small table.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    answers::{Counted, Stored},
    flights::{Delays, Expected},
};

/// What this run was told and what the store answers.
pub struct Got {
    /// Events that the door acknowledged in this run.
    pub accepted: u64,
    /// What this run's metrics say.
    pub counted: Counted,
    /// What was read back.
    pub stored: Stored,
}

/// The table, and whether everything is as expected.
pub fn report(expected: &Expected, got: &Got) -> (String, bool) {
    let mut table = Table { text: String::new(), good: true };
    table.line(&format!("{:<22}{:>10}{:>10}", "", "expected", "got"));
    for (name, expected, got) in [
        ("accepted", expected.rows, got.accepted),
        ("dropped as cancelled", expected.cancelled, got.counted.cancelled),
        ("stored", expected.stored(), got.stored.events),
    ] {
        let row = format!("{name:<22}{:>10}{:>10}", grouped(expected), grouped(got));
        table.compared(row, expected == got);
    }
    table.line("");
    table.line(&format!(
        "{:<9}{:>20}{:>22}{:>24}",
        "carrier", "departures", "mean delay", "minutes late in all"
    ));
    let all_expected = total(&expected.carriers);
    let all_got = total(&got.stored.by_day);
    for (name, expected) in &expected.carriers {
        let day = got.stored.by_day.get(name).copied().unwrap_or_default();
        let hour = got.stored.by_hour.get(name).copied().unwrap_or_default();
        let mean = got.stored.means.get(name).copied().unwrap_or(f64::NAN);
        let good = day == *expected && hour == *expected && (mean - expected.mean()).abs() < 1e-9;
        table.compared(carrier(name, expected, &day, mean), good);
    }
    table
        .compared(carrier("all", &all_expected, &all_got, all_got.mean()), all_got == all_expected);
    for name in got.stored.by_day.keys().filter(|name| !expected.carriers.contains_key(*name)) {
        table.compared(format!("{name:<9} is not in the table"), false);
    }
    (table.text, table.good)
}

struct Table {
    text: String,
    good: bool,
}

impl Table {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{}", line.trim_end()); // a String takes everything
    }

    fn compared(&mut self, row: String, good: bool) {
        self.good &= good;
        self.line(&if good { row } else { format!("{row}   <-- differs") });
    }
}

fn carrier(name: &str, expected: &Delays, got: &Delays, mean: f64) -> String {
    format!(
        "{name:<9}{:>10}{:>10}{:>12.2}{:>10.2}{:>12}{:>12}",
        grouped(expected.count),
        grouped(got.count),
        expected.mean(),
        mean,
        grouped_signed(expected.sum),
        grouped_signed(got.sum),
    )
}

fn total(carriers: &BTreeMap<String, Delays>) -> Delays {
    let mut all = Delays::default();
    carriers.values().for_each(|delays| all.add(delays));
    all
}

fn grouped_signed(number: f64) -> String {
    let sign = if number < 0.0 { "-" } else { "" };
    format!("{sign}{}", grouped(number.abs() as u64))
}

/// 26483 as 26,483.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_expected() -> (Expected, Got) {
        let delays = Delays { count: 2, sum: 5.0, min: -1.0, max: 6.0 };
        let carriers = BTreeMap::from([("UA".to_owned(), delays)]);
        let expected = Expected { rows: 3, cancelled: 1, carriers: carriers.clone() };
        let stored = Stored {
            events: 2,
            by_day: carriers.clone(),
            by_hour: carriers,
            means: BTreeMap::from([("UA".to_owned(), 2.5)]),
        };
        let counted = Counted { processed: 3, cancelled: 1, written: 2, sunk: 2 };
        (expected, Got { accepted: 3, counted, stored })
    }

    fn differs(change: impl FnOnce(&mut Got)) -> bool {
        let (expected, mut got) = as_expected();
        change(&mut got);
        let (text, good) = report(&expected, &got);
        assert_eq!(good, !text.contains("<-- differs"), "{text}");
        !good
    }

    #[test]
    fn what_is_as_expected_is_good() {
        assert!(!differs(|_| {}));
    }

    #[test]
    fn any_difference_is_marked() {
        assert!(differs(|got| got.accepted = 2));
        assert!(differs(|got| got.counted.cancelled = 0));
        assert!(differs(|got| got.stored.events = 3));
        assert!(differs(|got| got.stored.by_day.clear()));
        assert!(differs(|got| got.stored.by_hour.clear()));
        assert!(differs(|got| got.stored.means.clear()));
        assert!(differs(|got| got.stored.by_day.get_mut("UA").unwrap().min = 0.0));
        assert!(differs(|got| got.stored.means.insert("UA".into(), 2.6).map_or((), drop)));
        let more = Delays { count: 1, ..Delays::default() };
        assert!(differs(|got| got.stored.by_day.insert("XX".into(), more).map_or((), drop)));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (26_483, "26,483")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(grouped_signed(-1_234.0), "-1,234");
    }
}
