//! What agentctl shows in front of a terminal, whatever its size.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::e2e::apps::App;
use crate::lab::{Answer, Lab};

/// What people look at, and whether it is made of tables alone.
const SHOWN: &[(&[&str], bool)] = &[
    (&["nodes"], true),
    (&["ps"], true),
    (&["ps", "storefront-with-a-name"], true),
    (&["why", "storefront-with-a-name/web/0"], false),
    (&["status"], false),
    (&["events", "-n", "20"], false),
    (&["operator", "ls"], true),
    (&["image", "ls"], true),
];
/// The terminals that there are.
const COLUMNS: [usize; 4] = [80, 100, 120, 200];

/// No line is longer than the terminal, no word is broken, and a pipe gets everything.
pub(super) fn fits(lab: &mut Lab) -> Result<()> {
    let app = App::new("storefront-with-a-name", 3, Some(8087));
    app.place(lab)?;
    lab.ctl(&["node", "label", "n2", "rack=north-1", "disk=ssd", "owner=somebody"])?.done()?;
    for (args, is_table) in SHOWN {
        let piped = lab.ctl(args)?.done()?;
        ensure!(!piped.out.contains('\x1b'), "colours on a pipe: {piped:?}");
        let words: BTreeSet<String> = piped.out.split_whitespace().map(general).collect();
        for columns in COLUMNS {
            let seen = lab.seen_at(columns, "", args)?.done()?;
            let plain = without_colours(&seen.out);
            for line in plain.lines() {
                let width = line.trim_end().chars().count();
                ensure!(width <= columns, "{columns} columns, {width} taken by {args:?}: {line:?}");
            }
            let broken = plain.split_whitespace().find(|word| !words.contains(&general(word)));
            ensure!(
                broken.is_none() || !is_table,
                "{columns} columns: {args:?} shows {broken:?}, and a pipe does not:\n{plain}"
            );
        }
        let wide = lab.seen_at(80, "", &[args, &["-o", "wide"][..]].concat())?.done()?;
        ensure!(lines(&wide) == lines(&piped), "-o wide is not all: {wide:?}\n{piped:?}");
    }
    let header = lab.ctl(&["nodes"])?.done()?.out;
    for column in ["ID", "STATE", "CPU", "LABELS", "VERSION", "HEARD", "ADDRESS"] {
        ensure!(header.contains(column), "a pipe has no {column}: {header}");
    }
    for args in [&["nodes"][..], &["ps"]] {
        let coloured = |more| -> Result<bool> {
            Ok(lab.seen_at(80, more, args)?.done()?.out.contains("\x1b[32m"))
        };
        ensure!(coloured("")?, "{args:?} has no colours");
        ensure!(!coloured("NO_COLOR=1")?, "{args:?} has colours in spite of NO_COLOR");
        ensure!(!coloured("TERM=dumb")?, "{args:?} has colours on a dumb terminal");
    }
    lab.ctl(&["node", "label", "n2", "rack-", "disk-", "owner-"])?.done()?;
    app.remove(lab)
}

/// How often something has happened, and how long ago, may differ.
fn general(word: &str) -> String {
    let mut general = String::new();
    for part in word.split(|c: char| c.is_ascii_digit()) {
        general.push_str(part);
        if !general.ends_with('#') {
            general.push('#');
        }
    }
    general
}

fn lines(answer: &Answer) -> usize {
    answer.out.lines().count()
}

fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut in_code = false;
    for character in text.chars() {
        match character {
            '\x1b' => in_code = true,
            _ if in_code => in_code = !character.is_ascii_alphabetic(),
            '\r' => {}
            _ => plain.push(character),
        }
    }
    plain
}
