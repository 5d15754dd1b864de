//! Services that must never run twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::apps::App;
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
    ],
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

fn tell(seen: &Seen) {
    let Seen { looks, gap, tokens, .. } = seen;
    note(&format!("nothing ran for {gap:.1?}, tokens {tokens:?}, {looks} looks"));
}

fn power(lab: &mut Lab) -> Result<()> {
    let app = single("single");
    app.place(lab)?;
    let Some(first) = holder(lab, "single") else { anyhow::bail!("nobody runs it") };
    let bound = lab.bound("single")?;
    let alone = Alone::watch(lab, "single");
    lab.power_off(first)?;
    until_elsewhere(lab, "single", first)?;
    let seen = alone.seen()?;
    tell(&seen);
    ensure!(seen.tokens.len() == 2, "it did not run by two leases: {seen:?}");
    ensure!(seen.gap <= bound + START, "the bound is {bound:?}: {seen:?}");
    lab.power_on(first)?;
    lab.until_alive(3)?;
    lab.until_ready("single", 1)?;
    app.remove(lab)
}

fn cut(lab: &mut Lab) -> Result<()> {
    let app = single("lonely");
    app.place(lab)?;
    let Some(first) = holder(lab, "lonely") else { anyhow::bail!("nobody runs it") };
    let others: Vec<usize> = (1..=3).filter(|host| *host != first).collect();
    let alone = Alone::watch(lab, "lonely");
    lab.cut(&[first], &others)?;
    until_elsewhere(lab, "lonely", first)?;
    lab.heal()?;
    lab.until_alive(3)?;
    lab.until_ready("lonely", 1)?;
    tell(&alone.seen()?);
    app.remove(lab)
}

fn stopped(lab: &mut Lab) -> Result<()> {
    let app = single("stopped");
    app.place(lab)?;
    let Some(first) = holder(lab, "stopped") else { anyhow::bail!("nobody runs it") };
    let alone = Alone::watch(lab, "stopped");
    lab.host(first)?.signal(Signal::SIGSTOP)?;
    until_elsewhere(lab, "stopped", first)?;
    lab.host(first)?.signal(Signal::SIGCONT)?;
    lab.until_alive(3)?;
    lab.until_ready("stopped", 1)?;
    tell(&alone.seen()?);
    app.remove(lab)
}

fn restarted(lab: &mut Lab) -> Result<()> {
    let app = single("kept");
    app.place(lab)?;
    let Some(first) = holder(lab, "kept") else { anyhow::bail!("nobody runs it") };
    let before = lab.host(first)?.containers_of("kept");
    let alone = Alone::watch(lab, "kept");
    for _ in 0..3 {
        lab.host_mut(first)?.kill_agent()?;
        pause(Duration::from_millis(500));
        lab.host_mut(first)?.start(&["run"])?;
        lab.until_serving(first)?;
        lab.until_alive(3)?;
        // Longer than what was left of the lease.
        pause(TTL);
    }
    lab.until_ready("kept", 1)?;
    let seen = alone.seen()?;
    tell(&seen);
    ensure!(lab.host(first)?.containers_of("kept") == before, "it was started again");
    app.remove(lab)
}

fn planned(lab: &mut Lab) -> Result<()> {
    let app = single("moved");
    app.place(lab)?;
    let Some(first) = holder(lab, "moved") else { anyhow::bail!("nobody runs it") };
    let alone = Alone::watch(lab, "moved");
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
    tell(&alone.seen()?);
    app.remove(lab)
}
