//! Each form of a variable, set, empty and unset.

use proptest::prelude::*;

use super::interpolate;

fn run(text: &str) -> (Result<String, String>, Vec<String>) {
    let lookup = |name: &str| match name {
        "SET" => Some("value".to_owned()),
        "EMPTY" => Some(String::new()),
        "DOLLAR" => Some("$SET".to_owned()),
        _ => None,
    };
    let mut unset = Vec::new();
    let result = interpolate(text, &lookup, &mut unset);
    (result.map_err(|broken| broken.fault.found), unset)
}

#[test]
fn each_form_means_what_compose_says() {
    for (text, expected) in [
        ("plain", "plain"),
        ("$SET/${SET}", "value/value"),
        ("$$SET $${SET}", "$SET ${SET}"),
        ("${SET:-a}${SET-a}", "valuevalue"),
        ("${EMPTY:-a}${EMPTY-b}", "a"),
        ("${UNSET:-a}${UNSET-b}", "ab"),
        ("${SET:+a}${SET+b}", "ab"),
        ("${EMPTY:+a}${EMPTY+b}", "b"),
        ("${UNSET:+a}${UNSET+b}", ""),
        ("${UNSET:-${SET}}", "value"),
        ("${UNSET:-${UNSET:-x}y}z", "xyz"),
        ("${UNSET:-{}}", "{}"),
        ("${UNSET:-$$}", "$"),
        ("${UNSET:-}", ""),
        ("$DOLLAR", "$SET"),
        ("${SET:?message}${EMPTY?message}", "value"),
        ("$SET-$SET.x", "value-value.x"),
    ] {
        assert_eq!(run(text), (Ok(expected.to_owned()), vec![]), "{text}");
    }
}

#[test]
fn a_variable_without_value_is_told() {
    let (result, unset) = run("a${UNSET}b$OTHER");
    assert_eq!(
        (result.as_deref(), unset),
        (Ok("ab"), vec!["UNSET".to_owned(), "OTHER".to_owned()])
    );
}

#[test]
fn what_is_no_variable_is_refused() {
    for text in
        ["$", "a$ b", "$5", "${}", "${5}", "${SET", "${SET!}", "${SET:}", "${SET:=x}", "${A:-${B}"]
    {
        assert!(run(text).0.is_err(), "{text}");
    }
    let message = "the variable UNSET is required and not set: say value";
    assert_eq!(run("${UNSET:?say ${SET}}").0, Err(message.to_owned()));
}

proptest! {
    #[test]
    fn doubled_dollar_signs_protect_any_text(text in any::<String>()) {
        prop_assert_eq!(run(&text.replace('$', "$$")), (Ok(text), vec![]));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[${}A:?+-]{0,60}") {
        drop(run(&text));
    }
}
