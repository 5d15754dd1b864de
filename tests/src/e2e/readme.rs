//! The documents, followed by somebody who types what they say and compares what they see.
//!
//! The commands come out of README.md and deploy/GETTING-STARTED.md themselves, and so does what they show. Each is typed as root
//! on servers with files of their own, on which nothing is until the document installs it. Only what the text says in words (a
//! plug is pulled, a file is carried to another machine) is known here, and every line that is not typed is said aloud.

mod document;
mod reader;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use self::reader::{Reader, Rule, Way};
use super::{Group, Story, note};
use crate::lab::Lab;

pub(super) const GROUP: Group = Group {
    name: "the documents",
    n_hosts: 0,
    stories: &[
        Story { name: "README.md can be followed word by word", run: readme },
        Story { name: "deploy/GETTING-STARTED.md can be followed word by word", run: first_hour },
    ],
};

/// The nodes that the documents name, in the order of their addresses.
const NODES: [&str; 3] = ["alpha", "beta", "gamma"];

fn readme(_: &mut Lab) -> Result<()> {
    const RULES: &[Rule] = &[
        Rule { begins: "./deploy/demo", way: Way::Not("it is run by tests/e2e") },
        Rule { begins: "./tests/run", way: Way::Not("it is what runs this") },
        Rule { begins: "cargo build", way: Way::Not("it takes minutes; its programs are used") },
        Rule { begins: "./deploy/install", way: Way::On(&NODES) },
        Rule { begins: "agent check", way: Way::On(&NODES) },
        Rule { begins: "agent init", way: Way::On(&["alpha"]) },
        Rule { begins: "agent join", way: Way::On(&["beta", "gamma"]) },
        Rule { begins: "systemctl start", way: Way::There },
        Rule { begins: "agentctl exec -it", way: Way::Keys("Ada\r") },
        Rule { begins: "agentctl rm", way: Way::Keys("y\r") },
    ];
    follow("README.md", "## What you can rely on", &["alpha", "beta", "gamma", "ben"], RULES)
}

fn first_hour(_: &mut Lab) -> Result<()> {
    const RULES: &[Rule] = &[
        Rule { begins: "agent join", way: Way::On(&["beta"]) },
        Rule { begins: "systemctl start", way: Way::There },
        Rule { begins: "agent check", way: Way::There },
        Rule { begins: "agentctl exec -it", way: Way::Keys("Ada\r") },
        Rule { begins: "agentctl context export", way: Way::Keys("y\r") },
        Rule { begins: "agentctl context rm", way: Way::Keys("y\r") },
        Rule { begins: "agentctl place broken.yaml", way: Way::Fails },
        Rule { begins: "agentctl events -n 20", way: Way::Partly },
        Rule { begins: "while ", way: Way::Window },
    ];
    let people = ["alpha", "beta", "ben", "you"];
    follow("deploy/GETTING-STARTED.md", "## What it cannot do yet", &people, RULES)
}

/// Follows a document up to a heading, with these servers and machines.
fn follow(path: &str, end: &str, machines: &[&'static str], rules: &'static [Rule]) -> Result<()> {
    let begun = Instant::now();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let text = std::fs::read_to_string(&source).with_context(|| format!("there is no {path}"))?;
    let (text, _) = text.split_once(end).with_context(|| format!("{path} has no {end:?}"))?;
    let lab = Lab::new(machines.len())?;
    let mut servers = BTreeMap::new();
    for (index, name) in machines.iter().enumerate() {
        let server = lab.server(index + 1, name)?;
        if !NODES.contains(name) {
            // Somebody's own machine: agentctl was brought there.
            let program = lab.programs().path("agentctl").canonicalize()?;
            let script = format!("#!/bin/sh\nexec {} \"$@\"\n", program.display());
            server.has_program("agentctl", &script)?;
        }
        servers.insert(*name, server);
    }
    let mut reader = Reader::new(&lab, servers, rules);
    let followed = document::parse(text).iter().try_for_each(|part| reader.follow(part));
    let (n_typed, untyped) = (reader.n_typed, reader.untyped.clone());
    let followed = followed.with_context(|| reader.end_of_logs());
    drop(reader);
    let left = lab.close()?;
    followed?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    for line in &untyped {
        note(&format!("not typed: {line}"));
    }
    note(&format!(
        "{n_typed} lines typed, {} not, in {:.0} s",
        untyped.len(),
        begun.elapsed().as_secs_f64()
    ));
    ensure!(n_typed >= 25, "only {n_typed} lines of {path} were found");
    ensure!(begun.elapsed() < Duration::from_secs(150), "nobody has so much patience");
    Ok(())
}
