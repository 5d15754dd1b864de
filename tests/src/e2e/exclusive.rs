//! Services that must never run twice.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::apps::App;
use super::hung::hung;
use super::{Group, Story, note};
use crate::lab::{Alone, Lab, PATIENCE, Seen, pause, until};

pub(super) const GROUP: Group = Group {
    name: "services that never run twice",
    n_hosts: 3,
    stories: &[
        Story { name: "an exclusive service moves when its host loses power", run: power },
        Story {
            name: "an exclusive service that is cut off stops before another starts",
            run: cut,
        },
        Story { name: "an exclusive service ends when its agent is stopped", run: stopped },
        Story { name: "an exclusive service survives its agent", run: restarted },
        Story { name: "an exclusive service is handed over", run: planned },
        Story { name: "an exclusive service whose witnesses are lost is reset", run: lost },
        Story { name: "an exclusive service that cannot be killed is cut off", run: hung },
        Story { name: "two that run at one moment are found", run: crate::nemesis::control },
        Story { name: "nothing runs twice on a bad day, by the word of the programs", run: hunted },
    ],
};

/// Two servers, and what makes them three.
pub(super) const TWO: Group = Group {
    name: "services that never run twice, on two servers and a witness",
    n_hosts: 2,
    stories: &[Story {
        name: "a third machine that only witnesses lets two servers lose one",
        run: witnessed,
    }],
};

/// Starting a container takes a moment beyond the bound.
const START: Duration = Duration::from_secs(5);
/// The shortest lease there is.
const TTL: Duration = Duration::from_secs(6);

/// An app of one exclusive replica.
fn single(name: &str) -> App {
    App::new(name, 1, None).with("x-mesh: {guarantee: exclusive, lease: {ttl: 6s}}")
}

/// The host on which the one replica of an app runs, by the kernel's word.
fn holder(lab: &Lab, app: &str) -> Option<usize> {
    (1..=3).find(|host| lab.host(*host).is_ok_and(|it| !it.containers_of(app).is_empty()))
}

/// Waits until another host than `before` runs the app, and serves it.
fn until_elsewhere(lab: &Lab, app: &str, before: usize) -> Result<usize> {
    let mut now = before;
    until(TTL * 2 + PATIENCE, "another host runs it", || {
        now = holder(lab, app).unwrap_or(before);
        Ok(now != before)
    })?;
    Ok(now)
}

/// What the app's replica on a host hears when it asks for its lease.
fn ask(lab: &Lab, host: usize, app: &str) -> Result<String> {
    let containers = lab.host(host)?.containers_of(app);
    let pid = containers.first().context("nobody is there to ask")?.pid;
    let mut answer = String::new();
    UnixStream::connect(format!("/proc/{pid}/root/run/mesh/lease.sock"))?
        .read_to_string(&mut answer)?;
    Ok(answer)
}

fn tell(seen: &Seen) {
    let Seen { looks, gap, tokens, .. } = seen;
    note(&format!("nothing ran for {gap:.1?}, tokens {tokens:?}, {looks} looks"));
}

/// Places an app of one exclusive replica, and begins to look at it: the host that runs it.
fn watched(lab: &Lab, name: &str) -> Result<(App, usize, Alone)> {
    let app = single(name);
    app.place(lab)?;
    let first = holder(lab, name).context("nobody runs it")?;
    Ok((app, first, Alone::watch(lab, name)))
}

/// All is well again, and nothing ran twice on the way.
fn settled(lab: &Lab, app: &App, alone: Alone) -> Result<()> {
    lab.until_alive(3)?;
    lab.until_ready(&app.name, 1)?;
    tell(&alone.seen()?);
    app.remove(lab)
}

fn power(lab: &mut Lab) -> Result<()> {
    let (app, first, alone) = watched(lab, "single")?;
    let bound = lab.bound("single")?;
    lab.power_off(first)?;
    until_elsewhere(lab, "single", first)?;
    // By then its program has been run, and its token can be seen.
    lab.until_ready("single", 1)?;
    let seen = alone.seen()?;
    ensure!(seen.tokens.len() == 2, "it did not run by two leases: {seen:?}");
    ensure!(seen.gap <= bound + START, "the bound is {bound:?}: {seen:?}");
    tell(&seen);
    let alone = Alone::watch(lab, "single");
    lab.power_on(first)?;
    settled(lab, &app, alone)
}

fn cut(lab: &mut Lab) -> Result<()> {
    let (app, first, alone) = watched(lab, "lonely")?;
    let others: Vec<usize> = (1..=3).filter(|host| *host != first).collect();
    lab.cut(&[first], &others)?;
    until_elsewhere(lab, "lonely", first)?;
    lab.heal()?;
    settled(lab, &app, alone)
}

fn stopped(lab: &mut Lab) -> Result<()> {
    let (app, first, alone) = watched(lab, "stopped")?;
    lab.host(first)?.signal(Signal::SIGSTOP)?;
    let answer = ask(lab, first, "stopped")?;
    ensure!(answer.contains("\"state\":\"held\""), "without its agent it is told {answer:?}");
    until_elsewhere(lab, "stopped", first)?;
    lab.host(first)?.signal(Signal::SIGCONT)?;
    settled(lab, &app, alone)
}

fn restarted(lab: &mut Lab) -> Result<()> {
    let (app, first, alone) = watched(lab, "kept")?;
    let before = lab.host(first)?.containers_of("kept");
    for _ in 0..3 {
        lab.host_mut(first)?.kill_agent()?;
        pause(Duration::from_millis(500));
        lab.host_mut(first)?.start(&["run"])?;
        lab.until_serving(first)?;
        lab.until_alive(3)?;
        // Longer than what was left of the lease.
        pause(TTL);
    }
    ensure!(lab.host(first)?.containers_of("kept") == before, "it was started again");
    settled(lab, &app, alone)
}

fn hunted(lab: &mut Lab) -> Result<()> {
    crate::nemesis::story(lab, Duration::from_mins(3))
}

fn planned(lab: &mut Lab) -> Result<()> {
    let (app, first, alone) = watched(lab, "moved")?;
    lab.ctl(&["drain", &format!("n{first}")])?.done()?;
    until_elsewhere(lab, "moved", first)?;
    lab.until_ready("moved", 1)?;
    lab.ctl(&["undrain", &format!("n{first}")])?.done()?;
    let seen = alone.seen()?;
    tell(&seen);
    ensure!(seen.gap < TTL, "it waited for the lease to end: {seen:?}");
    let alone = Alone::watch(lab, "moved");
    single("moved")
        .with("x-mesh: {guarantee: exclusive, lease: {ttl: 6s}}\nenvironment: {A: b}")
        .place(lab)?;
    until(PATIENCE, "the new definition runs", || {
        Ok(lab.claims(None, "moved")?.iter().all(crate::lab::Claim::serves))
    })?;
    settled(lab, &app, alone)
}

/// Two hosts of three are lost, so the third cannot know whether they still run it: an operator has to say. Later they come back.
fn lost(lab: &mut Lab) -> Result<()> {
    let (app, first, alone) = watched(lab, "lost")?;
    // On three hosts.
    let (second, third) = (first % 3 + 1, (first + 1) % 3 + 1);
    lab.power_off(first)?;
    lab.power_off(second)?;
    // Who is believed to live becomes a witness.
    lab.until_alive_at(third, 1)?;
    let reset = lab.ctl_at(third, &["slot", "force-reset", "lost/web/0", "-y"])?;
    ensure!(reset.code == 3, "it is stored on one node, since there is no other: {reset:?}");
    let now = until_elsewhere(lab, "lost", first)?;
    ensure!(now == third, "{now} runs it, and {third} is alone");
    lab.power_on(first)?;
    lab.power_on(second)?;
    settled(lab, &app, alone)
}

/// The third host takes part in everything and never runs a container, also not one of a global service, and not after a restart.
fn witnessed(lab: &mut Lab) -> Result<()> {
    lab.add_host(3)?;
    let token = lab.token()?;
    lab.join_as(3, &token, &["--witness-only"])?;
    lab.until_alive(3)?;
    let global = App::new("everywhere", 2, None);
    let global = App { deploy: "mode: global\n".to_owned(), ..global };
    global.place(lab)?;
    let (app, first, alone) = watched(lab, "paired")?;
    ensure!(first != 3, "the witness runs it");
    lab.host_mut(3)?.kill_agent()?;
    lab.host_mut(3)?.start(&["run"])?;
    lab.until_serving(3)?;
    lab.until_alive(3)?;
    let bound = lab.bound("paired")?;
    lab.power_off(first)?;
    let second = until_elsewhere(lab, "paired", first)?;
    lab.until_ready("paired", 1)?;
    let seen = alone.seen()?;
    ensure!(second != 3 && seen.tokens.len() == 2, "host {second}: {seen:?}");
    ensure!(seen.gap <= bound + START, "the bound is {bound:?}: {seen:?}");
    tell(&seen);
    let leases = lab.ctl_at(3, &["leases", "paired", "--output", "json"])?.json()?;
    let held = leases.pointer("/leases/0/holder").and_then(serde_json::Value::as_str);
    ensure!(held == Some(&format!("n{second}")), "the witness is told of another: {leases}");
    let alone = Alone::watch(lab, "paired");
    lab.power_on(first)?;
    settled(lab, &app, alone)?;
    for app in ["everywhere", "paired"] {
        ensure!(lab.host(3)?.containers_of(app).is_empty(), "{app} runs on the witness");
    }
    let nodes = lab.ctl(&["nodes"])?.done()?;
    ensure!(nodes.out.contains("only witnesses"), "{}", nodes.out);
    global.remove(lab)
}
