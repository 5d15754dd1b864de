//! Which name was probably meant by one that is none.

use std::collections::BTreeSet;

/// The name that was probably meant: a third of it may be wrong, and something of it has to be right. Of several the first.
pub(crate) fn nearest<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    let typed = letters(text);
    let measured = names.iter().map(|name| {
        let known = letters(name);
        (distance(&typed, &known), known.len(), *name)
    });
    let (edits, len, name) = measured.min_by_key(|(edits, ..)| *edits)?;
    (edits <= len.div_ceil(3) && edits < len.max(typed.len())).then_some(name)
}

/// Its characters, without regard to case.
fn letters(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour to make `a` into `b` (optimal string
/// alignment: what was swapped is not changed again).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, x) in (1_usize..).zip(a) {
        let mut row = vec![i];
        let mut left = i;
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, j).saturating_add(usize::from(x != y));
            let removed = at(&above, j + 1).saturating_add(1);
            left = left.saturating_add(1).min(removed).min(replaced);
            if let Some(column) = j.checked_sub(1)
                && previous == Some(y)
                && b.get(column) == Some(x)
            {
                left = left.min(at(&before, column).saturating_add(1));
            }
            row.push(left);
        }
        before = std::mem::replace(&mut above, row);
        previous = Some(x);
    }
    above.last().copied().unwrap_or(0)
}

/// What may have been meant by a name that is none, or which names there are.
pub(crate) fn hint(text: &str, names: &[&str]) -> String {
    match nearest(text, names) {
        Some(name) => format!("did you mean {name}?"),
        None if names.is_empty() => "there is none yet".to_owned(),
        None => format!("there is {}", listed(names)),
    }
}

/// Some names of a list, each once, for people.
pub(crate) fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let mut seen = BTreeSet::new();
    let names: Vec<&str> = names.iter().copied().filter(|name| seen.insert(*name)).collect();
    let shown: Vec<&str> = names.iter().take(SHOWN).copied().collect();
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{}, and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    //! Edits are counted, and only a near name is suggested.

    use super::{distance, hint, letters, nearest};

    fn edits(a: &str, b: &str) -> usize {
        let there = distance(&letters(a), &letters(b));
        assert_eq!(
            there,
            distance(&letters(b), &letters(a)),
            "{a} {b}: the same in both directions"
        );
        there
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(edits("web", "web"), 0);
        assert_eq!(edits("", "web"), 3);
        assert_eq!(edits("webs", "web"), 1);
        assert_eq!(edits("wab", "web"), 1);
        assert_eq!(edits("kitten", "sitting"), 3);
    }

    #[test]
    fn swapped_neighbours_are_one_edit() {
        assert_eq!(edits("wbe", "web"), 1);
        assert_eq!(edits("abcd", "badc"), 2);
        // What was swapped is not changed again: three edits, and not two.
        assert_eq!(edits("ca", "abc"), 3);
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        assert_eq!(nearest("wbe", &["blog", "web"]), Some("web"));
        assert_eq!(nearest("blgo", &["web", "blog"]), Some("blog"));
        assert_eq!(nearest("BLOG", &["web", "blog"]), Some("blog"));
        assert_eq!(nearest("database", &["web", "blog"]), None);
        assert_eq!(nearest("a", &["b"]), None, "nothing of it is right");
        assert_eq!(nearest("", &["b"]), None);
    }

    #[test]
    fn of_equally_near_names_the_first_is_suggested() {
        assert_eq!(nearest("web", &["wed", "wet"]), Some("wed"));
        assert_eq!(nearest("web", &["wet", "wed"]), Some("wet"));
    }

    #[test]
    fn many_names_are_not_all_listed() {
        let names: Vec<String> = (0..10).map(|n| format!("node-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(hint("x", &names).ends_with("node-7, and 2 more"), "{}", hint("x", &names));
        assert_eq!(hint("x", &["web", "web"]), "there is web");
        assert_eq!(hint("x", &[]), "there is none yet");
    }
}
