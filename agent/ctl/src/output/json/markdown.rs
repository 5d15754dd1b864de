//! The documentation of the documents, made from their declarations.

use std::fmt::Write as _;

use super::{SHAPES, lease};

/// A field of a document.
#[derive(Debug)]
pub(crate) struct Field {
    pub(super) name: &'static str,
    pub(super) rust: &'static str,
    pub(super) doc: &'static [&'static str],
}

/// A document, or a part of one.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(super) name: &'static str,
    pub(super) doc: &'static [&'static str],
    pub(super) fields: &'static [Field],
}

/// The documentation of all documents, in Markdown.
pub(crate) fn markdown() -> String {
    let mut text = String::from(
        "# The JSON of agentctl\n\nEvery command prints one of these documents with `--output json`. Fields are only ever \
         added: a script ignores those that it does not know. Errors are lines on standard error, never JSON; look at the \
         exit code.\n",
    );
    for shape in SHAPES.iter().chain(lease::SHAPES) {
        write_shape(shape, &mut text);
    }
    text
}

fn write_shape(shape: &Shape, text: &mut String) {
    // Writing to a string cannot fail.
    let _infallible = write!(
        text,
        "\n## {}\n\n{}\n\n| field | type | meaning |\n|---|---|---|\n",
        shape.name,
        prose(shape.doc)
    );
    for Field { name, rust, doc } in shape.fields {
        let _infallible = writeln!(text, "| `{name}` | {} | {} |", json_type(rust), prose(doc));
    }
}

fn prose(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// What a Rust type looks like in JSON.
fn json_type(rust: &str) -> String {
    let rust = rust.replace(' ', "");
    let inside = |outer: &str| rust.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
    if let Some(inner) = inside("Option<") {
        return format!("{} or null", json_type(inner));
    }
    if let Some(inner) = inside("Vec<") {
        return format!("list of {}", json_type(inner));
    }
    match rust.as_str() {
        "String" => "text".to_owned(),
        "bool" => "true or false".to_owned(),
        "u16" | "u32" | "u64" => "number".to_owned(),
        "std::collections::BTreeMap<String,String>" => "object of texts".to_owned(),
        "std::collections::BTreeMap<String,u64>" => "object of numbers".to_owned(),
        shape => format!("[{shape}](#{})", shape.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    //! The documentation cannot rot.

    use super::{json_type, markdown};

    #[test]
    fn json_md_is_what_the_shapes_say() {
        let written = include_str!("../../../JSON.md");
        let right = markdown();
        if written != right {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("JSON.md");
            std::fs::write(&path, &right).unwrap();
            panic!("JSON.md was not up to date; it is now: run the test again and commit it");
        }
    }

    #[test]
    fn every_type_has_a_name_in_json() {
        assert_eq!(json_type("Option < Vec < Step > >"), "list of [Step](#step) or null");
        assert_eq!(json_type("u64"), "number");
    }
}
