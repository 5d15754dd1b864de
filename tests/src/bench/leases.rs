//! What it costs to hold many leases: traffic, flushes, processor and memory of each node, at rest and while all are acquired.
//!
//! Of three hosts two only witness, so one holds everything, and each of the others answers for everything. The same mesh is measured with no
//! slot, with a few and with all of them, and the first is taken off. What leases cost whose witnesses are all over a large mesh the simulator
//! tells (`scale`), with the same bytes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::flushes::Flushes;
use super::load::{Moment, Watch};
use super::options::Options;
use super::report::{Report, Table, say};
use super::usage::{Busy, Memory, shims};
use crate::e2e::apps::{App, push_program};
use crate::lab::{Deadline, Host, Lab, pause, process, until};

const HOSTS: usize = 3;
/// The one that runs everything; the others only witness.
const HOLDER: usize = 1;
const WITNESSES: [usize; 2] = [2, 3];
/// What runs by each lease: a program of one thread that waits. The example app has many, and a host bounds the threads of all containers.
const PROGRAM: &str = "mesh-test-payload";
const IMAGE: &str = "waits:1";
const COMMAND: &str = "command: [sleep, \"86400000\"]";
/// The length of the leases, the default, and the pause between two renewals.
const TTL: Duration = Duration::from_secs(12);
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// So few slots that what they cost is mostly that of the messages.
const FEW: usize = 10;
/// For so long traffic and processor time are counted.
const COUNTED: Duration = Duration::from_secs(60);
/// Flushes are counted for so long, ten renewals.
const TRACED: Duration = Duration::from_secs(30);
/// What follows a start is over after this time.
const SETTLE: Duration = Duration::from_secs(15);
/// How often it is looked whether all of them run; the kernel tells when the last one began.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// No start of all containers takes longer on a machine that is worth measuring.
const STARTS_MAX: Duration = Duration::from_mins(15);

/// Measures it.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let slots = options.slots;
    report.heading(&format!("leases: one host holds {slots}, two witness, renewed every 3 s"));
    let watch = Watch::start();
    let lab = mesh()?;
    let measured = all(&lab, slots, report);
    say(&format!("   {}", watch.told()));
    let left = lab.close()?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    measured
}

/// One host that runs what there is, and two that only witness.
fn mesh() -> Result<Lab> {
    let mut lab = Lab::new(HOSTS)?;
    lab.init(HOLDER)?;
    for host in WITNESSES {
        let token = lab.token()?;
        lab.join_as(host, &token, &["--witness-only"])?;
        lab.until_alive(host)?;
    }
    push_program(&lab, IMAGE, PROGRAM)?;
    Ok(lab)
}

fn all(lab: &Lab, slots: usize, report: &mut Report) -> Result<()> {
    let mut rests = vec![(0, Rest::of(lab)?)];
    let idle = flushes_at_rest(lab)?;
    if slots > FEW {
        acquire(lab, &app("few", FEW), FEW)?;
        rests.push((FEW, Rest::of(lab)?));
        remove(lab, "few")?;
    }
    let acquired = acquire(lab, &app("many", slots), slots)?;
    acquired.show(slots, report);
    rests.push((slots, Rest::of(lab)?));
    show_rests(lab, &rests);
    show_costs(&rests);
    show_flushes(slots, &idle, &flushes_at_rest(lab)?, report);
    Ok(())
}

fn app(name: &str, slots: usize) -> App {
    let lease = format!("x-mesh: {{guarantee: exclusive, lease: {{ttl: {}s}}}}", TTL.as_secs());
    let mut app = App::new(name, slots, None).with(&format!("{COMMAND}\n{lease}"));
    IMAGE.clone_into(&mut app.image);
    // Each look at a container's health starts a program in it, which is no matter of leases.
    "{disable: true}".clone_into(&mut app.health);
    app
}

/// How all leases were acquired.
#[derive(Debug)]
struct Acquired {
    /// From the order until the last container's process.
    ran: Duration,
    /// Until the mesh said that all serve.
    ready: Duration,
    /// The flushes of each witness that runs nothing.
    flushes: BTreeMap<usize, BTreeMap<String, u64>>,
}

fn acquire(lab: &Lab, app: &App, slots: usize) -> Result<Acquired> {
    let path = app.write(lab)?;
    let tracers = WITNESSES.map(|host| Ok((host, Flushes::of(lab, host)?)));
    let tracers = tracers.into_iter().collect::<Result<Vec<_>>>()?;
    let (begun, clock) = (Moment::now()?, Instant::now());
    lab.ctl(&["place", "--yes", "--detach", &path])?.done()?;
    let deadline = Deadline::after(STARTS_MAX);
    let running = loop {
        // To ask the kernel about a thousand containers takes a tenth of a second, so this is done rarely.
        pause(LOOK_EVERY);
        let running = lab.host(HOLDER)?.containers_of(&app.name);
        if running.len() >= slots {
            break running;
        }
        ensure!(!deadline.is_over(), "{} of {slots} run", running.len());
    };
    let last = running.iter().map(|one| one.started).max();
    let ran = Moment::of_ticks(last.context("nothing runs")?).since(begun);
    lab.until_ready(&app.name, slots)?;
    let ready = clock.elapsed();
    let counted = tracers.into_iter().map(|(host, tracer)| Ok((host, tracer.counted()?)));
    Ok(Acquired { ran, ready, flushes: counted.collect::<Result<_>>()? })
}

fn remove(lab: &Lab, app: &str) -> Result<()> {
    lab.ctl(&["rm", "--yes", "--detach", app])?.done()?;
    until(STARTS_MAX, &format!("no container of {app} is left"), || {
        Ok(lab.host(HOLDER)?.containers_of(app).is_empty())
    })
}

impl Acquired {
    fn show(&self, slots: usize, report: &mut Report) {
        say(&format!(
            "   {slots} acquired and started in {:.1} s, known to be ready after {:.1} s (4 starts at a time, witnesses traced)",
            self.ran.as_secs_f64(),
            self.ready.as_secs_f64()
        ));
        for (host, calls) in &self.flushes {
            let all: u64 = calls.values().sum();
            let each = number(usize::try_from(all).unwrap_or(usize::MAX)) / number(slots);
            let figure = format!("{all} calls ({}), {each:.3} per acquisition", told(calls));
            report.target(&format!("flushes of witness n{host}"), &figure, "<= 2", each <= 2.0);
        }
    }
}

fn told(calls: &BTreeMap<String, u64>) -> String {
    let each = calls.iter().map(|(name, count)| format!("{name} {count}"));
    each.collect::<Vec<_>>().join(", ")
}

/// What a host's card has counted.
#[derive(Debug, Clone, Copy, Default)]
struct Card {
    bytes_in: u64,
    packets_in: u64,
    bytes_out: u64,
    packets_out: u64,
}

impl Card {
    fn of(host: &Host) -> Result<Self> {
        let text = process::read(host.agent_pid()?, "net/dev");
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let counts: Vec<u64> =
            line.context("no card")?.split_whitespace().filter_map(|it| it.parse().ok()).collect();
        let at = |index: usize| counts.get(index).copied().context("a short line");
        Ok(Self { bytes_in: at(0)?, packets_in: at(1)?, bytes_out: at(8)?, packets_out: at(9)? })
    }
}

/// What one host does at rest, by the second.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    bytes_in: f64,
    packets_in: f64,
    bytes_out: f64,
    packets_out: f64,
    /// Of a core, in percent.
    agent: f64,
    /// The same of all that watches over its containers.
    watchers: f64,
    /// The agent's memory in KiB.
    memory: u64,
}

/// What all hosts do at rest.
#[derive(Debug)]
struct Rest(BTreeMap<usize, Share>);

/// The counts of one host at one moment.
#[derive(Debug)]
struct Counts {
    card: Card,
    agent: Busy,
    watchers: BTreeMap<i32, Busy>,
}

impl Counts {
    fn of(host: &Host) -> Result<Self> {
        let busy = |pid| Some((pid, Busy::of_process(pid).ok()?));
        let watchers = shims(host).into_iter().filter_map(busy).collect();
        Ok(Self { card: Card::of(host)?, agent: Busy::of(host)?, watchers })
    }
}

impl Rest {
    fn of(lab: &Lab) -> Result<Self> {
        pause(SETTLE);
        let clock = Instant::now();
        let before: Vec<Counts> = lab.hosts().map(Counts::of).collect::<Result<_>>()?;
        pause(COUNTED);
        let after: Vec<Counts> = lab.hosts().map(Counts::of).collect::<Result<_>>()?;
        let time = clock.elapsed();
        let each = |count: fn(&Card) -> u64, after: &Counts, before: &Counts| {
            let more = count(&after.card).saturating_sub(count(&before.card));
            Duration::from_secs(more).as_secs_f64() / time.as_secs_f64()
        };
        let mut shares = BTreeMap::new();
        for ((host, after), before) in lab.hosts().zip(&after).zip(&before) {
            let watched = after.watchers.iter().map(|(pid, busy)| {
                let earlier = before.watchers.get(pid).copied().unwrap_or_default();
                busy.since(&earlier, time).own
            });
            let share = Share {
                bytes_in: each(|card| card.bytes_in, after, before),
                packets_in: each(|card| card.packets_in, after, before),
                bytes_out: each(|card| card.bytes_out, after, before),
                packets_out: each(|card| card.packets_out, after, before),
                agent: after.agent.since(&before.agent, time).own,
                watchers: watched.sum(),
                memory: Memory::of(host.agent_pid()?)?.share,
            };
            shares.insert(host.number(), share);
        }
        Ok(Self(shares))
    }

    fn of_host(&self, host: usize) -> Share {
        self.0.get(&host).copied().unwrap_or_default()
    }
}

fn show_rests(lab: &Lab, rests: &[(usize, Rest)]) {
    let mut table = Table::new(&[
        "slots",
        "host",
        "out B/s",
        "out packets/s",
        "in B/s",
        "in packets/s",
        "agent core %",
        "agent PSS KiB",
        "shims and guard core %",
    ]);
    for (slots, rest) in rests {
        for host in lab.hosts() {
            let share = rest.of_host(host.number());
            let part = if host.number() == HOLDER { "holder" } else { "witness" };
            table.row([
                slots.to_string(),
                format!("{} ({part})", host.name()),
                format!("{:.0}", share.bytes_out),
                format!("{:.1}", share.packets_out),
                format!("{:.0}", share.bytes_in),
                format!("{:.1}", share.packets_in),
                format!("{:.2}", share.agent),
                share.memory.to_string(),
                format!("{:.2}", share.watchers),
            ]);
        }
    }
    table.print();
}

/// What each lease costs, renewed together with many.
fn show_costs(rests: &[(usize, Rest)]) {
    let (Some((_, idle)), Some((slots, held))) = (rests.first(), rests.last()) else { return };
    for (part, host) in [("its holder", HOLDER), ("each witness", WITNESSES[0])] {
        let (before, after) = (idle.of_host(host), held.of_host(host));
        let bytes = (after.bytes_out - before.bytes_out) / number(*slots);
        say(&format!("   a lease of {slots}: {part} sends {bytes:.1} B/s more"));
    }
}

/// How often each host's agent flushes while nothing happens but renewals.
fn flushes_at_rest(lab: &Lab) -> Result<BTreeMap<usize, BTreeMap<String, u64>>> {
    let begin = |host: &Host| Ok((host.number(), Flushes::of(lab, host.number())?));
    let tracers = lab.hosts().map(begin).collect::<Result<Vec<_>>>()?;
    pause(TRACED);
    tracers.into_iter().map(|(host, tracer)| Ok((host, tracer.counted()?))).collect()
}

/// A renewal that nobody has to remember costs no flush: there are as many as without any lease, which are those of the store's clock.
fn show_flushes(
    slots: usize,
    idle: &BTreeMap<usize, BTreeMap<String, u64>>,
    held: &BTreeMap<usize, BTreeMap<String, u64>>,
    report: &mut Report,
) {
    let renewals = number(slots) * TRACED.as_secs_f64() / RENEW_EVERY.as_secs_f64();
    for (host, calls) in held {
        let before = idle.get(host).map_or(0, |calls| calls.values().sum::<u64>());
        let all: u64 = calls.values().sum();
        let what = format!("flushes of n{host} in {} s at rest", TRACED.as_secs());
        let figure = format!("{all} calls ({}) for {renewals:.0} renewals", told(calls));
        let target = format!("<= {before} as without leases, and 1");
        report.target(&what, &figure, &target, all <= before + 1);
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
