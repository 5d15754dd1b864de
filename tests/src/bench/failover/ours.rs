//! Losing a host of a mesh.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::budget::Steps;
use super::{HOSTS, How, REST, Whose};
use crate::bench::load::Moment;
use crate::e2e::apps::{App, mesh_with_image, serves_on};
use crate::lab::{FirstAnswer, Lab, PATIENCE, pause, until};

/// The published port of the apps.
const PORT: u16 = 8100;

/// A mesh.
#[derive(Debug)]
pub(super) struct Ours(Lab);

impl Ours {
    pub(super) fn new() -> Result<Self> {
        mesh_with_image(HOSTS).map(Self)
    }

    /// One run.
    pub(super) fn lose(&mut self, run: usize, (how, whose): (How, Whose)) -> Result<Steps> {
        let lab = &mut self.0;
        let app = App::new(&format!("f{run}"), 1, Some(PORT));
        let slot = format!("{}/web/0", app.name);
        app.place(lab)?;
        let victim = lab.host_of(&app.name, &slot)?;
        let others: Vec<usize> = (1..=HOSTS).filter(|number| *number != victim).collect();
        let other = *others.first().context("a mesh of one host")?;
        serves_on(lab, &others, PORT)?;
        let entry = if whose == Whose::Entry { victim } else { other };
        lab.ctl_at(entry, &["ps", &app.name])?.done()?;
        let follower =
            lab.follow(&["--agent", &format!("10.77.0.{entry}:7420"), "events", "-f"])?;
        pause(REST);
        let client = FirstAnswer::start(lab, &others, PORT, &format!(" on n{victim} "));
        let (lost, clock) = (Moment::now()?, Instant::now());
        match how {
            How::PowerOff => lab.power_off(victim)?,
            How::Kill => lab.host_mut(victim)?.kill_all()?,
        }
        let mut found = None;
        until(PATIENCE, "the replica runs elsewhere", || {
            found = others.iter().find_map(|number| {
                let host = lab.host(*number).ok()?;
                Some((*number, host.containers_of(&app.name).first()?.started))
            });
            Ok(found.is_some())
        })?;
        let (holder, ticks) = found.context("it runs nowhere")?;
        let started = Moment::of_ticks(ticks).since(lost);
        let answered = client.wait(PATIENCE)?.saturating_duration_since(clock);
        drop(follower);
        let mut steps = Steps { started, answered, ..Steps::default() };
        steps.decided(&decisions(lab, holder, &slot, clock)?);
        lab.power_on(victim)?;
        lab.until_alive(HOSTS)?;
        app.remove(lab)?;
        Ok(steps)
    }

    /// Removes it, and says what is left of it in spite of that.
    pub(super) fn close(self) -> Result<Vec<String>> {
        self.0.close()
    }
}

/// What the new holder decided about a slot, and when since `clock`.
fn decisions(
    lab: &Lab,
    holder: usize,
    slot: &str,
    clock: Instant,
) -> Result<Vec<(Duration, String)>> {
    let mut decided = Vec::new();
    until(PATIENCE, "the new holder says that it is ready", || {
        let why = lab.ctl_at(holder, &["why", slot, "--output", "json"])?.done()?.json()?;
        let now = clock.elapsed();
        let list = why.get("decisions").and_then(|list| list.as_array()).cloned();
        decided = list
            .unwrap_or_default()
            .iter()
            .filter_map(|one| {
                let ago = Duration::from_millis(one.get("ago_ms")?.as_u64()?);
                Some((now.checked_sub(ago)?, one.get("text")?.as_str()?.to_owned()))
            })
            .collect();
        Ok(decided.iter().any(|(_, text)| text.starts_with("ready")))
    })?;
    Ok(decided)
}
