//! Sides that are measured in turn (A B A B ...), and how they compare: by the medians of the rounds
//! that count.

use crate::measure::{Cost, MOST_STEAL, mib};

/// One side of one round.
pub struct Trial {
    /// The side.
    pub side: &'static str,
    /// How many events or rows were done.
    pub units: u64,
    /// What they cost.
    pub cost: Cost,
    /// The highest resident memory of the process that is measured, in bytes.
    pub memory: Option<u64>,
}

impl Trial {
    fn rate(&self) -> f64 {
        self.units as f64 / self.cost.elapsed.as_secs_f64()
    }

    /// CPU seconds per million of what is measured: the first process that was watched.
    fn cpu(&self) -> f64 {
        self.cost.cpu.first().map_or(0.0, |(_, cpu)| cpu * 1e6 / self.units as f64)
    }
}

/// The trials of a bench.
pub struct Trials {
    unit: &'static str,
    all: Vec<Trial>,
}

impl Trials {
    /// None yet; `unit` is what is counted.
    pub fn new(unit: &'static str) -> Self {
        Self { unit, all: Vec::new() }
    }

    /// Prints a trial and keeps it. Round 0 is for warming up: it is printed alone.
    pub fn add(&mut self, round: u32, trial: Trial) {
        let Trial { side, units, cost, memory } = &trial;
        let memory = memory.map_or(String::new(), |bytes| format!(", {} MiB", mib(bytes)));
        println!(
            "  {} {side:<24} {:>8.0} {}/s; CPU s per million: {}{memory}; {}",
            if round == 0 { "-".to_owned() } else { round.to_string() },
            trial.rate(),
            self.unit,
            cost.per_million(*units),
            cost.beside(),
        );
        if round > 0 {
            self.all.push(trial);
        }
    }

    /// Units per second of a side; `None` if none of its rounds counts.
    pub fn rate(&self, side: &str) -> Option<f64> {
        self.median(side, Trial::rate)
    }

    /// The median of something over the rounds of a side that count.
    fn median(&self, side: &str, of: impl Fn(&Trial) -> f64) -> Option<f64> {
        let counted = self.all.iter().filter(|t| t.side == side && t.cost.counts());
        let mut values: Vec<f64> = counted.map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            n if n % 2 == 1 => Some(values[middle]),
            _ => Some((values[middle - 1] + values[middle]) / 2.0),
        }
    }

    /// Prints what a side comes to, beside another, and whether it reaches the share of its rate that
    /// it should.
    pub fn compare(&self, side: &str, than: &str, target: Option<f64>) {
        let (Some(rate), Some(other)) = (self.rate(side), self.rate(than)) else {
            println!("  {side}: discarded, every round was above {MOST_STEAL}% steal");
            return;
        };
        let cpu = |side| self.median(side, Trial::cpu).unwrap_or(0.0);
        let ratio = rate / other;
        let verdict = target.map_or(String::new(), |target| {
            format!(" (target {target:.2}: {})", if ratio >= target { "met" } else { "missed" })
        });
        println!(
            "  {side}: {rate:.0} {}/s at {:.2} CPU s per million; {than}: {other:.0} at {:.2}; \
             ratio {ratio:.2}{verdict}",
            self.unit,
            cpu(side),
            cpu(than),
        );
    }

    /// Prints how many times the CPU of another side a side takes, and whether that is at most what it
    /// should be, if anything.
    pub fn compare_cpu(&self, side: &str, than: &str, most: Option<f64>) {
        let (Some(cpu), Some(other)) =
            (self.median(side, Trial::cpu), self.median(than, Trial::cpu))
        else {
            return;
        };
        let ratio = cpu / other;
        let verdict = most.map_or(String::new(), |most| {
            let met = if ratio <= most { "met" } else { "missed" };
            format!(" (target at most {most:.2}: {met})")
        });
        println!("  CPU of {side} / {than}: {ratio:.2}{verdict}");
    }

    /// Prints the highest memory of a side, in rounds that count or not, and whether it stays below
    /// what it should.
    pub fn memory(&self, side: &str, target: Option<u64>) {
        let highest = self.all.iter().filter(|t| t.side == side).filter_map(|t| t.memory).max();
        let highest = mib(highest.unwrap_or(0));
        let verdict = target.map_or(String::new(), |target| {
            let met = if highest < target { "met" } else { "missed" };
            format!(" (target below {target}: {met})")
        });
        println!("  {side}: {highest} MiB at most{verdict}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn trial(side: &'static str, units: u64, steal: f64) -> Trial {
        let cost =
            Cost { elapsed: Duration::from_secs(1), cpu: vec![("it", 1.0)], steal, others: 0.0 };
        Trial { side, units, cost, memory: None }
    }

    #[test]
    fn rounds_with_too_much_steal_and_round_0_are_left_out_of_the_median() {
        let mut trials = Trials::new("events");
        for (round, units, steal) in [(0, 1, 0.0), (1, 10, 0.0), (2, 30, 9.0), (3, 99, 11.0)] {
            trials.add(round, trial("a", units, steal));
        }
        assert_eq!((trials.rate("a"), trials.rate("b")), (Some(20.0), None));
    }
}
