//! The end to end tests: real agents with real containers on the hosts of a lab.
//!
//! A program of its own and no `#[test]`s, since it is run with the release's programs and tells the time of each story. Stories
//! that leave the mesh as they found it share a lab; after one that failed, the next gets a new one. What runs is asked of the
//! kernel and of the apps themselves, and of the agents only where their word is what is tested.

pub(crate) mod apps;
mod clocks;
mod containers;
mod everyday;
mod exclusive;
mod faults;
mod hung;
mod keys;
mod members;
pub(crate) mod nemesis;
mod operators;
mod power;
mod readme;
mod restarts;
mod splits;
mod strangers;
mod traffic;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::lab::{self, Lab};

/// What can happen to a mesh, and what must come of it.
#[derive(Debug, Clone, Copy)]
struct Story {
    name: &'static str,
    run: fn(&mut Lab) -> Result<()>,
}

/// Stories that share a lab.
#[derive(Debug, Clone, Copy)]
struct Group {
    name: &'static str,
    /// How many hosts have joined when a story begins; none when its stories make labs of their own.
    n_hosts: usize,
    stories: &'static [Story],
}

const GROUPS: &[Group] = &[
    readme::GROUP,
    everyday::GROUP,
    traffic::GROUP,
    restarts::GROUP,
    power::GROUP,
    power::TWO,
    splits::GROUP,
    exclusive::GROUP,
    exclusive::TWO,
    members::GROUP,
    operators::GROUP,
    keys::GROUP,
    strangers::GROUP,
    clocks::GROUP,
    clocks::TWO,
    faults::GROUP,
    containers::GROUP,
    nemesis::GROUP,
];

/// Runs the stories whose name holds one of the arguments, or all.
#[must_use]
pub fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    // What hosts of a lab have for a service manager calls this program.
    if let [first, typed @ ..] = wanted.as_slice()
        && first == "--systemctl"
    {
        return lab::service::main(typed);
    }
    if wanted.iter().any(|word| word == "--list") {
        for (group, story) in all() {
            say(&format!("{}: {}", group.name, story.name));
        }
        return ExitCode::SUCCESS;
    }
    if wanted.iter().any(|word| word == "--clean") {
        clean();
        return ExitCode::SUCCESS;
    }
    let missing = lab::missing(true);
    if !missing.is_empty() {
        say(&format!("skipped: {}", missing.join("; ")));
        say(&format!("{} stories skipped", all().count()));
        return ExitCode::SUCCESS;
    }
    clean();
    match Runner::default().run(&wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("the tests cannot go on: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Removes the labs of tests that were killed.
fn clean() {
    for name in lab::of_dead_makers() {
        lab::clean(&name);
    }
}

fn all() -> impl Iterator<Item = (&'static Group, &'static Story)> {
    GROUPS.iter().flat_map(|group| group.stories.iter().map(move |story| (group, story)))
}

fn say(line: &str) {
    // Nobody may be reading, and the exit code tells the rest.
    let (Ok(()) | Err(_)) = writeln!(std::io::stdout(), "{line}");
}

/// Says what a story measured.
pub(crate) fn note(text: &str) {
    say(&format!("               {text}"));
}

#[derive(Debug, Default)]
struct Runner {
    n_told: usize,
    failed: Vec<&'static str>,
}

impl Runner {
    fn run(mut self, wanted: &[String]) -> Result<bool> {
        let begun = Instant::now();
        let is_wanted = |story: &Story| {
            wanted.is_empty() || wanted.iter().any(|word| story.name.contains(word.as_str()))
        };
        let machine = Machine::look()?;
        for group in GROUPS {
            let stories: Vec<&Story> = group.stories.iter().filter(|one| is_wanted(one)).collect();
            if !stories.is_empty() {
                say(group.name);
                self.group(group, &stories)?;
            }
        }
        self.tell("the machine is as it was before", Instant::now(), machine.compare());
        let seconds = begun.elapsed().as_secs();
        let (told, n_failed) = (self.n_told, self.failed.len());
        say(&format!("{} passed, {n_failed} failed, 0 skipped, {seconds} s", told - n_failed));
        for name in &self.failed {
            say(&format!("failed: {name}"));
        }
        Ok(self.failed.is_empty())
    }

    fn group(&mut self, group: &Group, stories: &[&'static Story]) -> Result<()> {
        let mut lab: Option<Lab> = None;
        for story in stories {
            let mut own = match lab.take() {
                Some(lab) => lab,
                None => {
                    let begun = Instant::now();
                    let made = apps::mesh_with_image(group.n_hosts);
                    let made = made.context("a lab for the next stories cannot be made")?;
                    let seconds = begun.elapsed().as_secs_f64();
                    say(&format!("        {seconds:5.1} s  ({} hosts)", group.n_hosts));
                    made
                }
            };
            let begun = Instant::now();
            let told = (story.run)(&mut own);
            if told.is_err() {
                keep_logs(&own, story.name);
                let left = own.close();
                self.tell(story.name, begun, told.and_then(|()| left.map(drop)));
            } else {
                self.tell(story.name, begun, told);
                lab = Some(own);
            }
        }
        if let Some(lab) = lab {
            let begun = Instant::now();
            let name = "  and nothing is left of the lab";
            self.tell(name, begun, lab.close().and_then(nothing));
        }
        Ok(())
    }

    fn tell(&mut self, name: &'static str, begun: Instant, told: Result<()>) {
        let seconds = begun.elapsed().as_secs_f64();
        self.n_told += 1;
        match told {
            Ok(()) => say(&format!("    ok  {seconds:5.1} s  {name}")),
            Err(error) => {
                say(&format!("  FAIL  {seconds:5.1} s  {name}"));
                for cause in error.chain() {
                    say(&format!("        {cause}"));
                }
                self.failed.push(name);
            }
        }
    }
}

fn nothing(left: Vec<String>) -> Result<()> {
    ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    Ok(())
}

/// The agents' logs of a story that failed stay where they can be read.
fn keep_logs(lab: &Lab, story: &str) {
    let name: String = story.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let dir = std::env::temp_dir().join("mesh-e2e-logs").join(name);
    let (Ok(()) | Err(_)) = std::fs::create_dir_all(&dir);
    for host in lab.hosts() {
        let kept = dir.join(format!("{}.log", host.name()));
        let (Ok(_) | Err(_)) = std::fs::copy(host.log(), kept);
    }
    say(&format!("        the agents' logs: {}", dir.display()));
}

/// What an agent makes in the network of its host, and must not have made in this machine's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine(BTreeSet<String>);

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let mut seen = BTreeSet::new();
        for (program, args) in
            [("ip", &["-o", "link", "show"][..]), ("nft", &["list", "tables"][..])]
        {
            let shown = Command::new(program).args(args).output()?;
            ensure!(shown.status.success(), "{program} {args:?} does not work");
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            // Others make interfaces and tables here meanwhile, with other names.
            seen.extend(shown.lines().filter(|line| line.contains("mesh")).map(str::to_owned));
        }
        Ok(Self(seen))
    }

    pub(crate) fn compare(&self) -> Result<()> {
        let now = Self::look()?;
        let more: Vec<&String> = now.0.difference(&self.0).collect();
        ensure!(more.is_empty(), "this machine has now: {more:?}");
        Ok(())
    }
}
