//! A container is created and started: by the embedded driver, by runc, by Docker.
//!
//! The driver and runc are measured by an example of the driver's crate, which says what they do; Docker is asked over its
//! socket to create and start a container without a network, and so has the same work. All of them take turns.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::docker::{self, Docker, IMAGE};
use super::load::Watch;
use super::options::Options;
use super::report::{Report, Table, say};
use super::sample::{HEADS, Sample, ratio};
use crate::lab::net::Net;
use crate::lab::{self, Programs};

/// The targets.
const RUNC: f64 = 0.7;
const DOCKER: f64 = 0.25;
/// What the example measures, and how it is shown.
const ROWS: [(&str, &str); 4] = [
    ("ours", "the driver: namespace, overlay, create, start"),
    ("runc", "runc create, runc start"),
    ("runc_set_up", "namespace, overlay, runc create, runc start"),
    ("runc_run_set_up", "namespace, overlay, runc run"),
];

/// Measures it.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    report.heading("start: a container is created and started");
    let watch = Watch::start();
    let mut times = Times::default();
    let name = lab::fresh_name();
    let measured = times.measure(&name, options);
    lab::clean(&name);
    times.show(report);
    say(&format!("   {}", watch.told()));
    measured?;
    let left = lab::left_behind(&name)?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

/// The times of everybody.
#[derive(Debug, Default)]
struct Times {
    rounds: Vec<Value>,
    docker: Vec<Duration>,
}

impl Times {
    fn measure(&mut self, name: &str, options: &Options) -> Result<()> {
        let programs = Programs::find()?;
        let dir = lab::dir_of(name);
        std::fs::create_dir_all(&dir)?;
        let net = Net::new(name);
        net.make()?;
        let docker = if options.with_peers {
            net.add(1)?;
            let mut docker = Docker::new(name, 1)?;
            docker.start(&net.namespace(1))?;
            docker.import(&docker::archive(&dir, &programs.path("hello"))?)?;
            Some(docker)
        } else {
            None
        };
        let mut example = Example::start(name, &programs)?;
        for run in 0..options.runs {
            self.rounds.push(example.round()?);
            if let Some(docker) = &docker {
                self.docker.push(create_and_start(docker, run)?);
            }
        }
        example.end()
    }

    fn show(&self, report: &mut Report) {
        let sample = |key: &str| -> Sample {
            let micros = self.rounds.iter().filter_map(|round| round.get(key)?.as_u64());
            micros.map(Duration::from_micros).collect()
        };
        let docker: Sample = self.docker.iter().copied().collect();
        let mut table = Table::new(&[&["ms"], HEADS.as_slice()].concat());
        let mut row = |what: &str, sample: &Sample| {
            if sample.len() > 0 {
                table.row([vec![what.to_owned()], sample.cells(tenths)].concat());
            }
        };
        for (key, what) in ROWS {
            row(what, &sample(key));
        }
        row("Docker: create, start, over its socket", &docker);
        table.print();
        let ours = sample("ours");
        if let Some(ratio) = ratio(&ours, &sample("runc")) {
            say(&format!(
                "   ours / runc with neither namespace nor overlay to set up: {ratio:.2}"
            ));
        }
        for (what, theirs, key, target) in [
            ("ours / runc with the same work", &sample("runc_set_up"), "<= 0.70", RUNC),
            ("ours / Docker", &docker, "<= 0.25", DOCKER),
        ] {
            if let Some(ratio) = ratio(&ours, theirs) {
                report.target(what, &format!("{ratio:.2}"), key, ratio <= target);
            }
        }
    }
}

fn tenths(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

fn create_and_start(docker: &Docker, run: usize) -> Result<Duration> {
    let request = json!({ "Image": IMAGE, "HostConfig": { "NetworkMode": "none" } });
    let begun = Instant::now();
    let made = docker.post(&format!("/containers/create?name=c{run}"), &request)?;
    let id = made.get("Id").and_then(Value::as_str).context("a container without an id")?;
    docker.post(&format!("/containers/{id}/start"), &Value::Null)?;
    let took = begun.elapsed();
    docker.delete(&format!("/containers/{id}?force=1"))?;
    Ok(took)
}

/// The example of the driver's crate at work.
#[derive(Debug)]
struct Example {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Example {
    fn start(name: &str, programs: &Programs) -> Result<Self> {
        let dir = lab::dir_of(name).join("start");
        std::fs::create_dir_all(&dir)?;
        let mut command = Command::new(programs.path("examples/start"));
        command.arg(&dir).arg(name).arg(programs.path("hello"));
        command.env(lab::process::DIR_VARIABLE, format!("{}/", dir.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot run the example of the driver")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, answers })
    }

    fn round(&mut self) -> Result<Value> {
        self.child.stdin.as_mut().context("no input")?.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).context("the example of the driver gave no times")
    }

    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the example of the driver: {status}");
        Ok(())
    }
}
