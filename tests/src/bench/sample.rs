//! Measured values and what is said of them.

use std::time::Duration;

/// Durations, ascending.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample(Vec<Duration>);

impl FromIterator<Duration> for Sample {
    fn from_iter<T: IntoIterator<Item = Duration>>(iter: T) -> Self {
        let mut values: Vec<Duration> = iter.into_iter().collect();
        values.sort_unstable();
        Self(values)
    }
}

impl Sample {
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that so many thousandths of all do not exceed; zero when there is none.
    pub(super) fn permille(&self, permille: usize) -> Duration {
        let rank = (self.0.len() * permille).div_ceil(1_000).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(super) fn median(&self) -> Duration {
        self.permille(500)
    }

    pub(super) fn max(&self) -> Duration {
        self.permille(1_000)
    }

    /// Count, min, median, p99 and max as cells of a table.
    pub(super) fn cells(&self, shown: fn(Duration) -> String) -> Vec<String> {
        let mut cells = vec![self.len().to_string()];
        cells.extend([0, 500, 990, 1_000].map(|permille| shown(self.permille(permille))));
        cells
    }
}

/// The heads of the columns of [`Sample::cells`].
pub(super) const HEADS: [&str; 5] = ["runs", "min", "median", "p99", "max"];

/// Whole milliseconds.
pub(super) fn millis(value: Duration) -> String {
    value.as_millis().to_string()
}

/// How large a median is beside another's; `None` when one of them is missing.
pub(super) fn ratio(ours: &Sample, theirs: &Sample) -> Option<f64> {
    let is_there = ours.len() > 0 && theirs.len() > 0 && !theirs.median().is_zero();
    is_there.then(|| ours.median().as_secs_f64() / theirs.median().as_secs_f64())
}
