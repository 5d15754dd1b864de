//! Commands: a list of words, or one line that is split into words as a shell would, without running one.

use crate::report::{Fault, Report};
use crate::walk::At;

/// A command or an entry point. Without a value (`command:`) the image's is kept, as in Compose.
pub(crate) fn command(at: &At<'_>, report: &mut Report) -> Option<Vec<String>> {
    if at.is_null() {
        return None;
    }
    words(at, report)
}

/// A list of words, or a line to be split.
pub(crate) fn words(at: &At<'_>, report: &mut Report) -> Option<Vec<String>> {
    if at.is_list() {
        let items = at.list(report)?;
        return items.iter().map(|item| item.text(report).map(str::to_owned)).collect();
    }
    if at.is_map() {
        at.refuse(
            "found a map where a command belongs",
            "write a line, or a list of words",
            report,
        );
        return None;
    }
    at.parse(split, report)
}

/// Where the splitting is.
#[derive(Clone, Copy, PartialEq)]
enum Quote {
    None,
    Single,
    Double,
}

/// Splits a line by the rules of POSIX shells for quotes and backslashes.
///
/// Compose drops everything from an unquoted `&&`, `|` or `>` on without a word. Here that is an error.
pub(crate) fn split(line: &str) -> Result<Vec<String>, Fault> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = Quote::None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Quote::None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            (Quote::None, '\'') => {
                quote = Quote::Single;
                word.get_or_insert_default();
            }
            (Quote::None, '"') => {
                quote = Quote::Double;
                word.get_or_insert_default();
            }
            (Quote::Single, '\'') | (Quote::Double, '"') => quote = Quote::None,
            (Quote::None | Quote::Double, '\\') => match rest.next() {
                None => {
                    let help = "write \\\\ for a backslash";
                    return Err(Fault::new("the command ends in a backslash", help));
                }
                // The line goes on.
                Some('\n') => {}
                Some(next) => {
                    let word = word.get_or_insert_default();
                    if quote == Quote::Double && !matches!(next, '"' | '\\' | '$' | '`') {
                        word.push('\\');
                    }
                    word.push(next);
                }
            },
            (Quote::None, '&' | '|' | ';' | '<' | '>' | '(' | ')' | '`') => {
                let found = format!("{c:?} would need a shell, and the command is run without one");
                let help = "quote it, or write [\"/bin/sh\", \"-c\", \"…\"]";
                return Err(Fault::new(found, help));
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote != Quote::None {
        return Err(Fault::new("the command has an open quote", "close it, or write \\' or \\\""));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_line_is_split_as_a_shell_would() {
        for (line, expected) in [
            ("", vec![]),
            ("  a  b\tc\n", vec!["a", "b", "c"]),
            ("a 'b c' \"d e\"", vec!["a", "b c", "d e"]),
            ("a''b ''", vec!["ab", ""]),
            (r"a\ b \'", vec!["a b", "'"]),
            (r#""a\"b" "\n" '\n'"#, vec!["a\"b", r"\n", r"\n"]),
            ("sh -c 'a && b'", vec!["sh", "-c", "a && b"]),
            ("a \\\n  b", vec!["a", "b"]),
        ] {
            assert_eq!(split(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for line in
            ["a && b", "a | b", "a > b", "a; b", "echo `id`", "(a)", "'open", "\"open", "end\\"]
        {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
