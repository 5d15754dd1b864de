//! One hunt: the app is placed, one step after the other is done to its hosts, and the judge looks after each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::act::{self, Act, Place};
use super::check::{self, Promise, Verdict, Window, seconds};
use super::histories::Histories;
use super::history::Run;
use super::plan::{Fault, Kind, Plan, Step};
use super::service::{self, APP};
use crate::lab::clock::raw;
use crate::lab::guards::signal_all;
use crate::lab::{Host, Lab, PATIENCE, pause, until};

/// Bytes of the disk that is filled: room for the image and the store, and little more.
const DISK: u64 = 96 << 20;
/// What a container's start takes, beyond the bound.
const START: Duration = Duration::from_secs(5);
/// How long a fault matters after it was made good: a witness that has restarted says nothing for 6.1 s, and who asked it meanwhile asks
/// again a while later; an agent listens for up to 10 s before it takes anything.
const SETTLE: Duration = Duration::from_secs(10);
/// Who wrote a moment ago runs.
const FRESH: Duration = Duration::from_secs(1);

/// What comes of a hunt.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) n_steps: usize,
    pub(crate) n_lines: u64,
    /// How often each kind happened.
    pub(crate) counts: BTreeMap<Kind, usize>,
    /// What was noticed beside violations.
    pub(crate) notes: Vec<String>,
}

/// A hunt under way.
#[derive(Debug)]
pub(crate) struct Hunt<'a> {
    lab: &'a mut Lab,
    hosts: Vec<usize>,
    tight: usize,
    promise: Promise,
    histories: Histories,
    windows: Vec<Window>,
    open: Vec<Act>,
    journal: File,
    counts: BTreeMap<Kind, usize>,
    notes: Vec<String>,
}

/// Where the files of a hunt are kept.
pub(crate) fn dir_of(seed: u64) -> PathBuf {
    std::env::temp_dir().join("mesh-nemesis").join(seed.to_string())
}

/// Removes the files of a hunt.
///
/// # Errors
/// When they cannot be.
pub(crate) fn forget(seed: u64) -> Result<()> {
    let dir = dir_of(seed);
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    // The directory of all hunts goes with the last one that is kept.
    let (None | Some(Ok(()) | Err(_))) = dir.parent().map(fs::remove_dir);
    Ok(())
}

impl<'a> Hunt<'a> {
    /// Places the app on the hosts of a mesh, and on another one that joins and whose disk can be full.
    ///
    /// # Errors
    /// When the mesh does not come to run it.
    pub(crate) fn begin(lab: &'a mut Lab, seed: u64) -> Result<Self> {
        let dir = dir_of(seed);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        // One that joined for another story and left stays among the hosts of the lab, without an agent.
        let with_agent = lab.hosts().filter(|host| host.check_alive().is_ok());
        let mut hosts: Vec<usize> = with_agent.map(Host::number).collect();
        let tight = lab.hosts().map(Host::number).max().unwrap_or(0) + 1;
        lab.add_host(tight)?;
        lab.host(tight)?.small_disk(DISK)?;
        lab.host(tight)?.containers_elsewhere()?;
        lab.join(tight)?;
        hosts.push(tight);
        lab.until_alive(hosts.len())?;
        let found =
            hosts.iter().map(|host| Ok((*host, lab.host(*host)?.containers_dir(*host == tight))));
        let histories =
            Histories::begin(found.collect::<Result<_>>()?, APP, &dir.join("histories"))?;
        let journal = File::create(dir.join("journal"))?;
        service::place(lab)?;
        let promise = Promise { bound: lab.bound(APP)?, start: START, settle: SETTLE };
        let (windows, open, counts, notes) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Ok(Self { lab, hosts, tight, promise, histories, windows, open, journal, counts, notes })
    }

    /// Does what the plan says for so long, or until something is wrong.
    ///
    /// # Errors
    /// When the lab does not do what it should, or a host does not come back.
    pub(crate) fn go_on(mut self, plan: Plan, time: Duration) -> Result<Outcome> {
        let over = raw()? + time;
        let mut n_steps = 0;
        for step in plan {
            if raw()? >= over || !self.judged()?.violations.is_empty() {
                break;
            }
            n_steps += 1;
            let done = self.step(&step);
            done.with_context(|| format!("step {n_steps} of the plan: {step:?}"))?;
        }
        self.end(n_steps)
    }

    /// All that could end a container is taken away at once, which is not covered: whoever runs the slot goes on, and another one is
    /// started. Returns what the judge says of it.
    ///
    /// # Errors
    /// When the lab does not do what it should.
    pub(crate) fn without_guards(self) -> Result<Verdict> {
        let (now, runs) = (raw()?, self.histories.read(raw()?)?);
        // The kernel would end the others with their shim.
        let run = last_of(&runs, "becomes/0", now).context("nobody runs it")?;
        let host = run.host;
        let one = self.lab.host_mut(host)?;
        let (shim, guard) = (one.shim(&run.container), one.guard());
        one.kill_agent()?;
        let is_hit = signal_all(guard, Signal::SIGSTOP) && signal_all(shim, Signal::SIGKILL);
        ensure!(is_hit, "host {host} has no shim or no guard");
        let found = until(self.promise.bound + START + PATIENCE, "the judge finds two", || {
            Ok(self.judged()?.violations.iter().any(|it| it.contains("two run at one moment")))
        });
        signal_all(guard, Signal::SIGCONT);
        act::run(self.lab, host)?;
        found?;
        self.judged()
    }

    fn end(self, n_steps: usize) -> Result<Outcome> {
        if self.judged()?.violations.is_empty() {
            until(PATIENCE, "every slot runs again", || {
                let (now, runs) = (raw()?, self.histories.read(raw()?)?);
                ensure!(
                    service::slots().iter().all(|slot| last_of(&runs, slot, now).is_some()),
                    "one of them does not"
                );
                Ok(true)
            })?;
        }
        let (now, runs) = (raw()?, self.histories.end()?);
        let verdict = check::judge(&service::slots(), &runs, &self.windows, self.promise, now);
        let n_lines = runs.iter().map(|run| run.n_lines).sum();
        let (counts, notes) = (self.counts, self.notes);
        Ok(Outcome { verdict, n_steps, n_lines, counts, notes })
    }

    fn judged(&self) -> Result<Verdict> {
        let now = raw()?;
        let runs = self.histories.read(now)?;
        Ok(check::judge(&service::slots(), &runs, &self.windows, self.promise, now))
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let begun = raw()?;
        for fault in &step.faults {
            self.wait(begun + fault.delay)?;
            self.happen(fault)?;
        }
        while let Some(next) = self.open.iter().map(|act| act.until).min() {
            self.wait(next)?;
        }
        self.mend()?;
        pause(step.rest);
        Ok(())
    }

    /// Waits until then, and makes good on the way what was long enough.
    fn wait(&mut self, until: Duration) -> Result<()> {
        loop {
            let now = raw()?;
            let due = self.open.iter().position(|act| act.until <= now.min(until));
            if let Some(due) = due {
                let act = self.open.swap_remove(due);
                self.make_good(act)?;
            } else if now >= until {
                return Ok(());
            } else {
                let next = self.open.iter().map(|act| act.until).min().unwrap_or(until);
                pause(next.min(until).saturating_sub(now));
            }
        }
    }

    fn happen(&mut self, fault: &Fault) -> Result<()> {
        let place = self.find(fault)?;
        let Some(mut act) = Act::new(fault, place)? else { return Ok(()) };
        // What stands still cannot be told to do anything, and what is gone cannot be killed.
        let fits = |other: &Act| other.host != act.host || other.kind.goes_with(act.kind);
        if !self.open.iter().all(fits) {
            return Ok(());
        }
        act.number = self.windows.len();
        let window = Window {
            what: act.name(),
            touches: act.touches(),
            boot: None,
            began: raw()?,
            ended: None,
        };
        writeln!(self.journal, "{} begins: {}", seconds(window.began), window.what)?;
        self.windows.push(window);
        if act.begin(self.lab).with_context(|| act.name())? {
            *self.counts.entry(act.kind).or_default() += 1;
        } else {
            writeln!(self.journal, "  hit nothing, or not all: {}", act.name())?;
        }
        if let Some(window) =
            self.windows.get_mut(act.number).filter(|_| act.kind == Kind::PowerLost)
        {
            window.boot = Some(raw()?);
        }
        self.open.push(act);
        self.cut()
    }

    /// Where a fault happens: at the holder of its slot, or further on.
    fn find(&self, fault: &Fault) -> Result<Place> {
        let (now, slots) = (raw()?, service::slots());
        let runs = self.histories.read(now)?;
        let slot = slots.get(fault.slot).context("the plan knows more slots than there are")?;
        let holder = last_of(&runs, slot, now);
        let first = holder.and_then(|run| self.hosts.iter().position(|host| *host == run.host));
        let at = |steps: usize| {
            let index = (first.unwrap_or(fault.slot) + steps) % self.hosts.len();
            self.hosts.get(index).copied().context("there are no hosts")
        };
        let host = at(fault.further)?;
        let others = self.hosts.len() - 1;
        let other = at(fault.further + 1 + fault.way % others)?;
        let on_host = slots.iter().filter_map(|slot| last_of(&runs, slot, now));
        let container = holder.into_iter().chain(on_host).find(|run| run.host == host);
        let container = container.map(|run| run.container.clone());
        Ok(Place { host, other, container, tight: self.tight })
    }

    fn make_good(&mut self, mut act: Act) -> Result<()> {
        self.cut()?;
        act.end(self.lab).with_context(|| format!("made good: {}", act.name()))?;
        let now = raw()?;
        writeln!(self.journal, "{} is over: {}", seconds(now), act.name())?;
        if let Some(window) = self.windows.get_mut(act.number) {
            window.ended = Some(now);
        }
        Ok(())
    }

    /// All links are as the faults that last have them.
    fn cut(&self) -> Result<()> {
        self.lab.heal()?;
        for (from, to) in self.open.iter().flat_map(|act| act.cuts(&self.hosts)) {
            self.lab.cut_one_way(from, to)?;
        }
        Ok(())
    }

    /// Agents that have ended by themselves are started, as a service manager would, and every host that runs something has its guard:
    /// without it the next step could take all that is left.
    fn mend(&mut self) -> Result<()> {
        for host in self.hosts.clone() {
            if self.lab.host(host)?.check_alive().is_err() {
                let log = self.lab.host(host)?.log_end();
                let at = seconds(raw()?);
                self.notes
                    .push(format!("at {at} the agent of host {host} had ended by itself:\n{log}"));
                self.lab.host_mut(host)?.kill_agent()?;
                act::run(self.lab, host)?;
            }
            let one = self.lab.host(host)?;
            until(PATIENCE, &format!("host {host} has its guard"), || {
                signal_all(one.shims(), Signal::SIGCONT);
                Ok(one.containers_of(APP).is_empty() || one.guard().is_some())
            })?;
        }
        Ok(())
    }
}

/// The start of a slot that wrote last, if that was a moment ago.
fn last_of<'a>(runs: &'a [Run], slot: &str, now: Duration) -> Option<&'a Run> {
    let of_slot = runs.iter().filter(|run| run.slot == slot);
    let last = of_slot.max_by_key(|run| run.said.map(|said| said.last))?;
    let is_fresh = last.said.is_some_and(|said| now.saturating_sub(said.last) < FRESH);
    is_fresh.then_some(last)
}

/// Removes the app and the host that joined for it.
///
/// # Errors
/// When something of it stays.
pub(crate) fn leave(lab: &mut Lab) -> Result<()> {
    let joined = lab.hosts().map(Host::number).max().context("a lab without hosts")?;
    crate::e2e::apps::remove(lab, APP)?;
    lab.ctl(&["node", "rm", "--yes", &format!("n{joined}")])?.done()?;
    lab.power_off(joined)
}
