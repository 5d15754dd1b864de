//! Lists of `NAME=value`.

/// Both lists together; a name of `over` replaces the same name of `base`.
pub(crate) fn merge(base: &[String], over: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split_once('=').map(|(name, _)| name.to_owned());
    let kept = |list: &[String], later: &[String]| {
        let replaced = |variable: &&String| {
            let wanted = name(variable);
            wanted.is_none() || later.iter().any(|other| name(other) == wanted)
        };
        list.iter().filter(|variable| !replaced(variable)).cloned().collect::<Vec<_>>()
    };
    let mut merged = kept(base, over);
    merged.extend(kept(over, &[]));
    merged
}

#[cfg(test)]
mod tests {
    //! Replacing.

    use super::merge;

    #[test]
    fn the_later_value_wins_and_what_is_no_variable_is_left_out() {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let merged = merge(&list(&["A=1", "B=2", "junk"]), &list(&["B=3=4", "C="]));
        assert_eq!(merged, list(&["A=1", "B=3=4", "C="]));
    }
}
