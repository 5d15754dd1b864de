//! What is printed: tables, each figure's target and whether it was met, and all targets again at the end.

use std::io::Write as _;
use std::time::Instant;

/// Prints a line.
pub(super) fn say(line: &str) {
    // Nobody may be reading, and nothing else depends on it.
    let (Ok(()) | Err(_)) = writeln!(std::io::stdout(), "{line}");
    let (Ok(()) | Err(_)) = std::io::stdout().flush();
}

/// A figure that has a target.
#[derive(Debug)]
struct Verdict {
    part: String,
    what: String,
    figure: String,
    target: String,
    is_met: bool,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Report {
    begun: Instant,
    part: String,
    verdicts: Vec<Verdict>,
    failures: Vec<String>,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            part: String::new(),
            verdicts: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Begins a part.
    pub(super) fn heading(&mut self, part: &str) {
        part.clone_into(&mut self.part);
        say(&format!("\n== {part} ({} s)", self.begun.elapsed().as_secs()));
    }

    /// Says how a figure compares with its target.
    pub(super) fn target(&mut self, what: &str, figure: &str, target: &str, is_met: bool) {
        say(&format!("   {} {what}: {figure}, target {target}", mark(is_met)));
        self.verdicts.push(Verdict {
            part: self.part.clone(),
            what: what.to_owned(),
            figure: figure.to_owned(),
            target: target.to_owned(),
            is_met,
        });
    }

    /// Says that something could not be measured, or left something behind.
    pub(super) fn failed(&mut self, what: &str, error: &anyhow::Error) {
        say(&format!("   FAILED {what}: {error:#}"));
        self.failures.push(format!("{what}: {error:#}"));
    }

    /// Prints all targets and failures once more; whether there was no failure.
    pub(super) fn close(mut self) -> bool {
        self.heading("all targets");
        let mut table = Table::new(&["", "what", "figure", "target"]);
        let mut last = "";
        for verdict in &self.verdicts {
            if verdict.part != last {
                last = &verdict.part;
                table.row([last.to_owned()]);
            }
            let cells = [mark(verdict.is_met), &verdict.what, &verdict.figure, &verdict.target];
            table.row(cells.map(str::to_owned));
        }
        table.print();
        let n_missed = self.verdicts.iter().filter(|verdict| !verdict.is_met).count();
        let n_failed = self.failures.len();
        let n_met = self.verdicts.len() - n_missed;
        say(&format!("   {n_met} met, {n_missed} missed, {n_failed} could not be measured"));
        for failure in &self.failures {
            say(&format!("   FAILED {failure}"));
        }
        self.failures.is_empty()
    }
}

const fn mark(is_met: bool) -> &'static str {
    if is_met { "met   " } else { "MISSED" }
}

/// Rows of cells, text to the left and numbers to the right; a row of one cell is a heading across all columns.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(super) fn print(&self) {
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..n_columns)
            .map(|column| {
                let cells = self.rows.iter().filter(|row| row.len() > 1);
                let cells = cells.filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            if let [heading] = row.as_slice() {
                say(&format!("   {heading}"));
                continue;
            }
            let mut line = String::from("  ");
            for (cell, width) in row.iter().zip(&widths) {
                let fill = " ".repeat(width - cell.chars().count());
                let is_number = cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
                let (before, after) =
                    if is_number { (fill.as_str(), "") } else { ("", fill.as_str()) };
                line.push_str(&format!(" {before}{cell}{after} "));
            }
            say(line.trim_end());
        }
    }
}
