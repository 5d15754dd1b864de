//! Which name was probably meant by one that is none.

use std::collections::BTreeSet;

/// The name that was probably meant: a third of it may be wrong, where two neighbours that are swapped are one mistake, and
/// something of it has to be right. Of several the first.
pub(crate) fn nearest<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    let typed = text.to_lowercase();
    let measured = names.iter().map(|name| {
        let known = name.to_lowercase();
        (strsim::osa_distance(&typed, &known), known.chars().count(), *name)
    });
    let (edits, len, name) = measured.min_by_key(|(edits, ..)| *edits)?;
    (edits <= len.div_ceil(3) && edits < len.max(typed.chars().count())).then_some(name)
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
    //! Only a near name is suggested.

    use super::{hint, nearest};

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
