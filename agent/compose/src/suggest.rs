//! "Did you mean": the known name that is closest to an unknown one.

/// The name that is at most two edits away, one for short names; of equals the first.
pub(crate) fn closest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // No known name is longer; the distance is quadratic in the length.
    const LEN_MAX: usize = 40;
    let text = text.to_ascii_lowercase().replace('-', "_");
    if text.len() > LEN_MAX {
        return None;
    }
    let allowed = if text.len() <= 4 { 1 } else { 2 };
    names
        .map(|name| (distance(&text, &name.replace('-', "_")), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many insertions, removals, replacements and swaps of neighbours make `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (row, x) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut left = row + 1;
        for (column, y) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, column).saturating_add(usize::from(x != *y));
            let mut best = replaced.min(left + 1).min(at(&above, column + 1).saturating_add(1));
            let swapped = column
                .checked_sub(1)
                .is_some_and(|one| previous == Some(*y) && b.get(one) == Some(&x));
            if swapped {
                best = best.min(at(&before, column - 1).saturating_add(1));
            }
            current.push(best);
            left = best;
        }
        before = std::mem::replace(&mut above, current);
        previous = Some(x);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{closest, distance};

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "", 3),
            ("image", "imgae", 1),
            ("ports", "port", 1),
            ("a", "a", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_close_names_are_suggested() {
        let names = ["image", "command", "user"];
        assert_eq!(closest("Comand", names.into_iter()), Some("command"));
        assert_eq!(closest("usr", names.into_iter()), Some("user"));
        assert_eq!(closest("volume", names.into_iter()), None);
    }
}
