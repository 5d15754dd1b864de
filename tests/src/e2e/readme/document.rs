//! What a document tells its reader to type, and what it says will be shown.
//!
//! Blocks are indented by four. In a block with lines that begin with `$ ` these are typed, and what follows is shown. A block
//! without them is a file if it begins with a name, as Compose files do, and else a list of lines to type.

/// A piece of a document, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The text of a file.
    File(String),
    /// A line of text around the blocks.
    Prose(String),
    /// Something to type.
    Typed(Step),
}

/// Something to type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// The line of the document.
    pub(super) number: usize,
    /// What is typed.
    pub(super) typed: String,
    /// What the document remarks behind it.
    pub(super) comment: String,
    /// What is shown.
    pub(super) shown: Vec<String>,
}

impl Step {
    fn new(number: usize, line: &str) -> Self {
        let (typed, comment) = line.split_once("  #").unwrap_or((line, ""));
        let (typed, comment) = (typed.trim().to_owned(), comment.trim().to_owned());
        Self { number, typed, comment, shown: Vec::new() }
    }

    /// Commands that the remark names: they are to be typed too.
    pub(super) fn remarked(&self) -> impl Iterator<Item = Self> {
        let commands = self.comment.split(';').map(str::trim);
        let commands = commands.filter(|words| words.starts_with("agentctl "));
        let commands: Vec<Self> =
            commands.map(|typed| Self { typed: typed.to_owned(), ..self.clone() }).collect();
        commands.into_iter().map(|step| Self { comment: String::new(), shown: Vec::new(), ..step })
    }
}

const INDENT: &str = "    ";

/// Takes a document apart.
pub(super) fn parse(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut block: Vec<(usize, &str)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index.saturating_add(1);
        if let Some(inner) = line.strip_prefix(INDENT) {
            // What comes before may be a file.
            if inner.starts_with("$ ") && block.last().is_some_and(|(_, last)| last.is_empty()) {
                parts.extend(parts_of(&std::mem::take(&mut block)));
            }
            block.push((number, inner));
        } else if line.trim().is_empty() {
            // A block may have empty lines in it.
            if !block.is_empty() {
                block.push((number, ""));
            }
        } else {
            parts.extend(parts_of(&std::mem::take(&mut block)));
            parts.push(Part::Prose(line.to_owned()));
        }
    }
    parts.extend(parts_of(&block));
    parts
}

fn parts_of(block: &[(usize, &str)]) -> Vec<Part> {
    let is_list = !block.iter().any(|(_, line)| line.starts_with("$ "));
    if is_list && block.first().is_some_and(|(_, line)| line.starts_with("name: ")) {
        let lines: Vec<&str> = block.iter().map(|(_, line)| *line).collect();
        return vec![Part::File(format!("{}\n", lines.join("\n").trim_end()))];
    }
    let mut parts: Vec<Part> = Vec::new();
    for (number, line) in block.iter().filter(|(_, line)| !line.trim().is_empty()) {
        match (line.strip_prefix("$ "), parts.last_mut()) {
            (Some(typed), _) => parts.push(Part::Typed(Step::new(*number, typed))),
            (None, _) if is_list => parts.push(Part::Typed(Step::new(*number, line))),
            (None, Some(Part::Typed(step))) => step.shown.push((*line).to_owned()),
            (None, _) => parts.push(Part::Prose((*line).to_owned())),
        }
    }
    parts
}

/// Whether a line that was shown is the one of the document. Names of nodes, numbers, keys, and what the document cuts off with
/// `...` (a word, or as a word of its own the rest of a line) are examples.
pub(super) fn is_alike(written: &str, shown: &str) -> bool {
    let (mut written, mut shown) = (written.split_whitespace(), shown.split_whitespace());
    loop {
        match (written.next(), shown.next()) {
            (None, None) => return true,
            (Some("..."), Some(_)) if written.clone().next().is_none() => return true,
            (Some(a), Some(b)) if is_word_alike(a, b) => {}
            _ => return false,
        }
    }
}

fn is_word_alike(written: &str, shown: &str) -> bool {
    if let Some(start) = written.strip_suffix("...") {
        return !start.is_empty() && shown.len() > start.len();
    }
    let is_id = |word: &str| {
        word.len() >= 8 && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if is_id(written) && written.contains(|c: char| c.is_ascii_digit()) {
        return is_id(shown) && shown.len() == written.len();
    }
    general(written) == general(shown)
}

/// A word without what may differ.
fn general(word: &str) -> String {
    let mut general = String::new();
    let mut in_number = false;
    for character in word.chars() {
        let is_digit = character.is_ascii_digit();
        if is_digit && !in_number {
            general.push('#');
        }
        // The point of a number, or of an address, belongs to it.
        in_number = is_digit || (in_number && character == '.');
        if !in_number {
            general.push(character);
        }
    }
    ["alpha", "beta", "gamma"].iter().fold(general, |text, name| text.replace(name, "NODE"))
}

#[cfg(test)]
mod tests {
    //! Documents in small.

    use super::{Part, Step, is_alike, parse};

    fn typed(number: usize, typed: &str, comment: &str, shown: &[&str]) -> Part {
        let shown = shown.iter().map(ToString::to_string).collect();
        Part::Typed(Step { number, typed: typed.to_owned(), comment: comment.to_owned(), shown })
    }

    #[test]
    fn what_is_typed_is_told_from_what_is_shown() {
        let text = "First:\n\n    $ one --two   # on alpha\n    shown\n\n      more\n    $ three\n\nThen.\n";
        assert_eq!(
            parse(text),
            [
                Part::Prose("First:".to_owned()),
                typed(3, "one --two", "on alpha", &["shown", "  more"]),
                typed(7, "three", "", &[]),
                Part::Prose("Then.".to_owned()),
            ]
        );
    }

    #[test]
    fn a_block_without_prompts_is_a_list_or_a_file() {
        assert_eq!(
            parse("    ./install\n    agent check  # says\n"),
            [typed(1, "./install", "", &[]), typed(2, "agent check", "says", &[])]
        );
        assert_eq!(
            parse("    name: hello\n    services:\n      web: {}\n\n    $ place\n"),
            [
                Part::File("name: hello\nservices:\n  web: {}\n".to_owned()),
                typed(5, "place", "", &[])
            ]
        );
    }

    #[test]
    fn commands_in_a_remark_are_typed_too() {
        let step = Step::new(1, "agentctl drain gamma  # without a gap; agentctl undrain gamma");
        let more: Vec<String> = step.remarked().map(|step| step.typed).collect();
        assert_eq!(more, ["agentctl undrain gamma"]);
    }

    #[test]
    fn names_numbers_and_keys_may_differ_and_words_may_not() {
        for (written, shown) in [
            ("alpha  756at5tn  alive  0", "gamma  abcdefgh  alive  12"),
            (
                "Created the mesh prod with the node alpha at 10.79.0.1:7420.",
                "Created the mesh prod with the node alpha at 10.77.0.1:7420.",
            ),
            ("--token mesh1-b5y4...", "--token mesh1-b5y4xulqm"),
            ("2s ago  ready, 1180 ms after", "13s ago ready, 990 ms after"),
            ("0.000 of 2.000", "1.500 of 4"),
            ("leases: they end ...", "leases: they end by a guard"),
        ] {
            assert!(is_alike(written, shown), "{written} {shown}");
        }
        for (written, shown) in [
            ("alpha alive", "alpha down"),
            ("3 of 3 replicas ready", "3 of 3 replicas"),
            ("--token mesh1-b5y4...", "--token"),
            ("LAST FAILOVER", "LAST  FAIL"),
            ("1.2 s", "-"),
            ("leases: they end ...", "leases: they end"),
            ("leases ... end", "leases always end"),
        ] {
            assert!(!is_alike(written, shown), "{written} {shown}");
        }
    }
}
