//! One bad thing after the other, drawn from a seed, and a mesh that must be whole again afterwards.
//!
//! `MESH_E2E_SEED` tells the same story again, as far as processes in real time can.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::apps::{App, serves_on};
use super::{Group, Story, note};
use crate::lab::{Lab, Load, PATIENCE, pause, until};

pub(super) const GROUP: Group = Group {
    name: "bad days",
    n_hosts: 3,
    stories: &[Story { name: "a mesh is whole again after a bad day", run: bad_day }],
};

/// How many bad things happen: about half a minute of them.
const N_EVENTS: usize = 16;
/// How long each lasts at most.
const EVENT_MS_MAX: u64 = 2_500;

/// Numbers from a seed (Marsaglia's xorshift).
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// One of so many numbers, from 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn host(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.below(3))? + 1)
    }

    fn time(&mut self) -> Duration {
        Duration::from_millis(self.below(EVENT_MS_MAX))
    }
}

/// The given seed, or one of its own.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("MESH_E2E_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32).max(1)
}

fn bad_day(lab: &mut Lab) -> Result<()> {
    let seed = seed();
    note(&format!("MESH_E2E_SEED={seed}"));
    let mut dice = Dice(seed);
    let apps = [App::new("first", 3, Some(8140)), App::new("second", 2, Some(8141))];
    for app in &apps {
        app.place(lab)?;
    }
    serves_on(lab, &[1, 2, 3], 8140)?;
    let load = Load::start(lab, &[1, 2, 3], 8140, 2, Duration::from_secs(1));
    let mut told = Vec::new();
    for _ in 0..N_EVENTS {
        let event = happen(lab, &mut dice);
        told.push(event.with_context(|| format!("after {}", told.join(", ")))?);
        pause(dice.time() / 2);
    }
    let told = told.join(", ");
    let (tally, _) = load.stop()?;
    note(&told);
    note(&format!("{tally:?}"));
    whole_again(lab, &apps).with_context(|| format!("after {told}"))?;
    ensure!(tally.sent > 100, "hardly any load: {tally:?}");
    apps.iter().try_for_each(|app| app.remove(lab))
}

fn whole_again(lab: &Lab, apps: &[App]) -> Result<()> {
    lab.until_alive(3)?;
    for app in apps {
        lab.until_ready(&app.name, app.replicas)?;
        until(PATIENCE, &format!("every replica of {} runs once", app.name), || {
            let n: usize = lab.hosts().map(|host| host.containers_of(&app.name).len()).sum();
            ensure!(n == app.replicas, "{n} containers of {}", app.name);
            Ok(true)
        })?;
        serves_on(lab, &[1, 2, 3], app.port.context("each app has a port")?)?;
    }
    Ok(())
}

/// Lets something happen and makes it good again; says what it was.
fn happen(lab: &mut Lab, dice: &mut Dice) -> Result<String> {
    let (host, kind, time) = (dice.host()?, dice.below(8), dice.time());
    let other = host % 3 + 1;
    let ms = time.as_millis();
    Ok(match kind {
        0 => {
            lab.host_mut(host)?.kill_agent()?;
            pause(time);
            begin(lab, host)?;
            format!("{host} killed for {ms} ms")
        }
        1 => {
            lab.host(host)?.signal(Signal::SIGSTOP)?;
            pause(time);
            lab.host(host)?.signal(Signal::SIGCONT)?;
            format!("{host} stopped for {ms} ms")
        }
        2 => {
            lab.cut(&[host], &[other, other % 3 + 1])?;
            pause(time);
            lab.heal()?;
            format!("{host} cut off for {ms} ms")
        }
        3 => {
            lab.cut_one_way(host, other)?;
            pause(time);
            lab.heal()?;
            format!("{host} not heard by {other} for {ms} ms")
        }
        4 => {
            lab.power_off(host)?;
            pause(time);
            lab.power_on(host)?;
            format!("{host} without power for {ms} ms")
        }
        5 => {
            lab.host(host)?.signal(Signal::SIGHUP)?;
            pause(time);
            lab.until_serving(host)?;
            format!("{host} restarted, {ms} ms")
        }
        6 => {
            // Both agents at once; their containers go on.
            lab.host_mut(host)?.kill_agent()?;
            lab.host_mut(other)?.kill_agent()?;
            pause(time);
            begin(lab, host)?;
            begin(lab, other)?;
            format!("{host} and {other} killed for {ms} ms")
        }
        _ => {
            lab.cut(&[host], &[other])?;
            pause(time);
            lab.heal()?;
            format!("{host} and {other} apart for {ms} ms")
        }
    })
}

fn begin(lab: &mut Lab, host: usize) -> Result<()> {
    lab.host_mut(host)?.start(&["run"])?;
    lab.until_serving(host)
}
