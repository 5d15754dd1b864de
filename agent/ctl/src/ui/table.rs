//! Tables for people: as wide as the terminal and no wider.
//!
//! A narrow terminal costs columns first, those that matter least before the others, and then lines: a long text is broken
//! between its words. Where nobody looks, on a pipe, every column is there and every row is one line, so that a script that
//! cuts columns out of it works in every window.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::Mood;

/// Between two columns.
const GAP: usize = 2;
/// A text that is no wider is not broken: a state or an amount is read at a glance or not at all.
const TEXT_WHOLE: usize = 24;

/// A value in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    mood: Mood,
}

impl Cell {
    /// A value that needs no colour.
    pub(crate) fn new(value: impl ToString) -> Self {
        cell(value.to_string(), Mood::Plain)
    }

    fn width(&self) -> usize {
        self.text.lines().map(width).max().unwrap_or(0)
    }

    fn longest_word(&self) -> usize {
        self.text.split_whitespace().map(width).max().unwrap_or(0)
    }
}

/// A cell in the colour of its mood.
pub(crate) fn cell(text: impl Into<String>, mood: Mood) -> Cell {
    Cell { text: text.into(), mood }
}

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: &'static [&'static str],
    /// The columns that a narrow terminal can do without, the first one first.
    spare: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

/// An empty table with these columns.
pub(crate) const fn table(columns: &'static [&'static str]) -> Table {
    Table { columns, spare: &[], rows: Vec::new() }
}

impl Table {
    /// Names the columns that a narrow terminal can do without, those that matter least first.
    pub(crate) const fn spare(mut self, columns: &'static [&'static str]) -> Self {
        self.spare = columns;
        self
    }

    /// Adds a row; cells that are missing at its end are empty.
    pub(crate) fn add_row(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Its lines, none of them wider than `room`.
    pub(crate) fn lines(&self, room: Option<usize>) -> Vec<String> {
        let columns = self.layout(room);
        let header: Vec<Cell> = self.columns.iter().map(Cell::new).collect();
        let rows = std::iter::once(&header).chain(&self.rows);
        rows.flat_map(|row| lines_of(row, &columns)).collect()
    }

    /// Which columns are shown, and how wide.
    fn layout(&self, room: Option<usize>) -> Vec<Column> {
        let all = self.columns.iter().enumerate();
        let mut columns: Vec<Column> = all.map(|(index, name)| self.column(index, name)).collect();
        let Some(room) = room else { return columns };
        for name in self.spare {
            if total(&columns, |column| column.least) <= room {
                break;
            }
            columns.retain(|column| column.name != *name);
        }
        let mut left = room.saturating_sub(total(&columns, |column| column.least));
        for column in &mut columns {
            let more = left.min(column.width.saturating_sub(column.least));
            column.width = column.least.saturating_add(more);
            left = left.saturating_sub(more);
        }
        // Only words that are longer than there is room for are broken.
        while total(&columns, |column| column.width) > room {
            let widest = columns.iter_mut().max_by_key(|column| column.width);
            match widest.filter(|column| column.width > 1) {
                Some(column) => column.width = column.width.saturating_sub(1),
                None => break,
            }
        }
        columns
    }

    fn column(&self, index: usize, name: &'static str) -> Column {
        let cells = || self.rows.iter().filter_map(|row| row.get(index));
        let width = cells().map(Cell::width).chain([width(name)]).max().unwrap_or(0);
        let word = cells().map(Cell::longest_word).chain([self::width(name)]).max().unwrap_or(0);
        let least = if width <= TEXT_WHOLE { width } else { word.max(TEXT_WHOLE) };
        Column { index, name, width, least }
    }
}

/// A column that is shown.
#[derive(Debug, Clone, Copy)]
struct Column {
    index: usize,
    name: &'static str,
    width: usize,
    /// How narrow it can be without a broken word.
    least: usize,
}

fn total(columns: &[Column], width: impl Fn(&Column) -> usize) -> usize {
    let gaps = columns.len().saturating_sub(1).saturating_mul(GAP);
    columns.iter().map(width).sum::<usize>().saturating_add(gaps)
}

fn lines_of(row: &[Cell], columns: &[Column]) -> Vec<String> {
    let nothing = Cell::new("");
    let cells: Vec<(Vec<String>, Mood, usize)> = columns
        .iter()
        .map(|column| {
            let cell = row.get(column.index).unwrap_or(&nothing);
            let lines = cell.text.lines().flat_map(|line| broken(line, column.width, ""));
            (lines.collect(), cell.mood, column.width)
        })
        .collect();
    let height = cells.iter().map(|(lines, ..)| lines.len()).max().unwrap_or(0).max(1);
    let line = |n: usize| {
        let mut line = String::new();
        for (lines, mood, wide) in &cells {
            let text = lines.get(n).map_or("", String::as_str);
            line.push_str(&painted(text, *mood));
            let padding = wide.saturating_sub(width(text)).saturating_add(GAP);
            line.extend(std::iter::repeat_n(' ', padding));
        }
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// In the colour of its mood; whoever prints takes that out again where it does not belong.
fn painted(text: &str, mood: Mood) -> String {
    let code = match mood {
        _ if text.is_empty() => return String::new(),
        Mood::Good => "32",
        Mood::Busy => "33",
        Mood::Bad => "31",
        Mood::Plain => return text.to_owned(),
    };
    format!("\x1b[{code}m{text}\x1b[39m")
}

/// How many columns of a terminal a text takes.
fn width(text: &str) -> usize {
    text.width()
}

/// The lines of a text that is broken between words, and within one only when it has no room on a line of its own. Every line but
/// the first begins with `indent`.
pub(super) fn broken(text: &str, room: usize, indent: &str) -> Vec<String> {
    if width(text) <= room {
        return vec![text.to_owned()];
    }
    let room = room.max(1);
    let indent = if width(indent).saturating_mul(2) < room { indent } else { "" };
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut is_empty = true;
    for word in text.split(' ') {
        let long = width(&line).saturating_add(usize::from(!is_empty)).saturating_add(width(word));
        if !is_empty && long > room {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
            is_empty = true;
        }
        if is_empty && word.is_empty() && !lines.is_empty() {
            continue;
        }
        if !is_empty {
            line.push(' ');
        }
        is_empty = false;
        for character in word.chars() {
            let more = character.width().unwrap_or(0);
            if width(&line).saturating_add(more) > room {
                lines.push(std::mem::replace(&mut line, indent.to_owned()));
            }
            line.push(character);
        }
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    //! No line is wider than the terminal, and no word is broken that fits.

    use super::{Cell, Table, broken, cell, table, width};
    use crate::ui::Mood;

    fn sample() -> Table {
        let mut table =
            table(&["NODE", "STATE", "LABELS", "ADDRESS", "DETAIL"]).spare(&["LABELS", "ADDRESS"]);
        for (node, labels) in
            [("alpha", "rack=one"), ("gamma-with-a-long-name", "rack=two,disk=ssd")]
        {
            table.add_row(vec![
                Cell::new(node),
                cell("ready, node down", Mood::Bad),
                Cell::new(labels),
                Cell::new("192.168.100.100:7420"),
                Cell::new("health check: the answer was 503 and not 200, three times in a row"),
            ]);
        }
        table
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_word_is_broken() {
        let words: Vec<String> =
            sample().lines(None).join(" ").split_whitespace().map(str::to_owned).collect();
        for room in [40, 60, 80, 100, 120, 200] {
            for line in sample().lines(Some(room)) {
                let plain = anstream::adapter::strip_str(&line).to_string();
                assert!(width(&plain) <= room, "{room}: {plain:?}");
                if room >= 80 {
                    for word in plain.split_whitespace() {
                        assert!(
                            words
                                .iter()
                                .any(|it| anstream::adapter::strip_str(it).to_string() == word),
                            "{word}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn columns_that_matter_least_go_first() {
        let header = |room| sample().lines(room).remove(0);
        assert!(header(None).contains("LABELS") && header(Some(200)).contains("LABELS"));
        assert!(!header(Some(100)).contains("LABELS"), "{}", header(Some(100)));
        assert!(header(Some(100)).contains("ADDRESS"), "{}", header(Some(100)));
        assert!(!header(Some(80)).contains("ADDRESS"), "{}", header(Some(80)));
        assert!(header(Some(20)).contains("NODE"), "what is not spare stays");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut table = table(&["NAME", "STATE"]);
        table.add_row(vec![Cell::new("東京"), Cell::new("a")]);
        table.add_row(vec![Cell::new("x→y"), Cell::new("b")]);
        assert_eq!(table.lines(None), ["NAME  STATE", "東京  a", "x→y   b"]);
    }

    #[test]
    fn a_row_without_its_last_cells_is_a_row() {
        let mut table = table(&["A", "B", "C"]);
        table.add_row(vec![Cell::new("1")]);
        table.add_row(vec![Cell::new(""), Cell::new("2"), Cell::new("3\n4")]);
        assert_eq!(table.lines(Some(80)), ["A  B  C", "1", "   2  3", "      4"]);
    }

    #[test]
    fn a_text_is_broken_between_words() {
        assert_eq!(broken("one two three", 8, "  "), ["one two", "  three"]);
        assert_eq!(
            broken("  3s ago  claims it", 14, "      "),
            ["  3s ago", "      claims", "      it"]
        );
        assert_eq!(broken("abcdefghij", 4, ""), ["abcd", "efgh", "ij"]);
        assert_eq!(broken("", 4, ""), [""]);
        assert_eq!(broken("abc defgh", 0, "")[0], "a", "no room at all is no reason to hang");
    }
}
