//! What lines of a file of variables mean.

use proptest::prelude::*;

use super::{Outcome, read, read_raw};

fn run(text: &str) -> Outcome {
    read(text, &|name| (name == "SET").then(|| "value".to_owned()))
}

fn one(text: &str) -> Option<String> {
    let outcome = run(text);
    assert_eq!(outcome.faults, [], "{text}");
    assert_eq!(outcome.variables.len(), 1, "{text}");
    outcome.variables.into_iter().next()?.1
}

#[test]
fn a_line_gives_a_variable() {
    for (line, expected) in [
        ("A=b", "b"),
        ("  export A = b  ", "b"),
        ("A: b", "b"),
        ("A=", ""),
        ("A=b c # comment", "b c"),
        ("A=b#c", "b#c"),
        ("A=# comment", ""),
        ("A=$SET-${SET}", "value-value"),
        ("A=$$SET", "$SET"),
        ("A='$SET # x'", "$SET # x"),
        (r#"A="$SET\n\t\"\$SET\\ \x" # comment"#, "value\n\t\"$SET\\ \\x"),
        ("A=\"one\ntwo\"\n", "one\ntwo"),
        ("A='one\n two'\n", "one\n two"),
        ("A=b=c", "b=c"),
    ] {
        assert_eq!(one(line).as_deref(), Some(expected), "{line}");
    }
    assert_eq!(one("A\n"), None);
}

#[test]
fn lines_above_and_the_environment_are_known() {
    let outcome = run("A=1\n\n# comment\nB=$A$SET\nSET=x\nC=$SET\n");
    let values: Vec<_> =
        outcome.variables.iter().filter_map(|(_, value)| value.as_deref()).collect();
    assert_eq!(values, ["1", "1value", "x", "value"]);
}

#[test]
fn faults_have_their_line_and_the_rest_is_read() {
    let outcome = run("A='one\ntwo'\n9=x\nB=\"open\nC=${\n  D E\nF=1\nG=$NONE\n");
    let lines: Vec<_> = outcome.faults.iter().map(|(position, _)| *position).collect();
    assert_eq!(lines, [(3, 1), (4, 1), (5, 1), (6, 3)]);
    assert_eq!(outcome.unset, [((8, 1), "NONE".to_owned())]);
    assert_eq!(outcome.variables.len(), 3);
}

#[test]
fn a_raw_file_keeps_everything() {
    let outcome = read_raw("# comment\nA='$x' #y\n\nB\n=c\n", &|_| None);
    let a = ("A".to_owned(), Some("'$x' #y".to_owned()));
    assert_eq!(outcome.variables, [a, ("B".to_owned(), None)]);
    assert_eq!(outcome.faults.len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[A=: \"'\\\\\n#${}x]{0,80}") {
        let outcome = run(&text);
        let n_lines = text.split('\n').count();
        prop_assert!(outcome.faults.iter().all(|((line, _), _)| *line <= n_lines));
    }

    #[test]
    fn a_single_quoted_value_is_kept(value in "[^']{0,40}") {
        prop_assert_eq!(one(&format!("A='{value}'")), Some(value));
    }
}
