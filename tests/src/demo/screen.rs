//! What the person in front of the screen sees.

use std::io::{self, IsTerminal as _, Write as _};

/// Prints a line.
pub(super) fn line(text: &str) {
    // Whoever closed the screen does not want to know.
    let (Ok(()) | Err(_)) = writeln!(io::stdout(), "{text}");
    let (Ok(()) | Err(_)) = io::stdout().flush();
}

/// A heading, and what is about to be seen.
pub(super) fn heading(number: usize, text: &str) {
    line(&format!("\n{}", style("1", &format!("{number}. {text}"))));
}

/// A command as it is typed at a place.
pub(super) fn typed(place: &str, command: &str) {
    line(&format!("   {} {}", style("2", &format!("{place}$")), style("36", command)));
}

/// What a command printed, or a remark.
pub(super) fn shown(text: &str) {
    for one in text.trim_end().lines() {
        line(&format!("   {one}"));
    }
}

/// The last line.
pub(super) fn summary(text: &str) {
    line(&format!("\n{}", style("1;32", text)));
}

fn style(code: &str, text: &str) -> String {
    if io::stdout().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
