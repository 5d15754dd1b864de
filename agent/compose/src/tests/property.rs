//! Properties of the parser as a whole.

use proptest::prelude::*;

use super::{environment, load_text, manifests};
use crate::{Source, load};

/// Pieces from which texts are made that look like manifests more often than random characters do.
const PIECES: &[&str] = &[
    "name",
    "services",
    "web",
    "image",
    "nginx",
    "ports",
    "deploy",
    "replicas",
    "environment",
    "healthcheck",
    "test",
    ": ",
    ":\n",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "<<: ",
    "\"",
    "'",
    "${",
    "}",
    "$",
    ":-",
    "|",
    ">",
    "#",
    "\t",
    "80:80",
    "0",
    "-1",
    "~",
    "null",
    "!!str ",
    "!x ",
    "---",
    "? ",
    ",",
    "\\",
    "é",
    "\u{feff}",
    "\0",
    "\r\n",
    "%YAML",
];

proptest! {
    #[test]
    fn any_text_gives_a_manifest_or_problems(text in any::<String>()) {
        drop(load_text(&text));
    }

    #[test]
    fn anything_that_looks_like_a_manifest_gives_one_or_problems(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60),
    ) {
        let outcome = load_text(&pieces.concat());
        if let Err(problems) = outcome {
            prop_assert!(problems.iter().count() > 0);
            prop_assert!(!problems.to_string().is_empty());
        }
    }

    #[test]
    fn a_value_of_any_text_reaches_the_container_unchanged(value in "[^\0]{0,40}") {
        // JSON is YAML, and its strings can hold everything.
        let quoted = serde_like_json(&value.replace('$', "$$"));
        let text = format!("{{name: shop, services: {{web: {{image: x, labels: {{a: {quoted}}}}}}}}}");
        let loaded = load_text(&text).unwrap();
        let service = loaded.manifest.services.values().next().unwrap();
        prop_assert_eq!(service.container.labels.get("a"), Some(&value));
    }

    #[test]
    fn every_cut_of_a_manifest_gives_problems_within_the_file(
        index in any::<prop::sample::Index>(), end in any::<prop::sample::Index>(),
    ) {
        let manifests = manifests("broken");
        let (_, text) = index.get(&manifests);
        let cut: String = text.chars().take(end.index(text.chars().count() + 1)).collect();
        let n_lines = cut.split('\n').count();
        if let Err(problems) = load(&Source::text("cut", cut), &environment) {
            for place in problems.iter().filter_map(|problem| problem.place.as_ref()) {
                prop_assert!((1..=n_lines + 1).contains(&place.line), "{place:?}");
            }
        }
    }
}

/// The text as a JSON string.
fn serde_like_json(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_control() || !c.is_ascii() => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    json.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}
