//! Networks that fall apart and come together again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::apps::{App, at_least_one, serves_on};
use super::{Group, Story, note};
use crate::lab::{Deadline, Lab, Load, PATIENCE, pause, until};

pub(super) const GROUP: Group = Group {
    name: "networks that fall apart",
    n_hosts: 3,
    stories: &[
        Story { name: "both sides of a split serve, and it heals", run: split },
        Story { name: "a cut in one direction interrupts nobody", run: one_way },
        Story { name: "the same app is placed on both sides of a split", run: twins },
    ],
};

fn split(lab: &mut Lab) -> Result<()> {
    let app = App::new("sides", 3, Some(8120));
    app.place(lab)?;
    serves_on(lab, &[1, 2, 3], 8120)?;
    lab.cut(&[1, 2], &[3])?;
    for side in [&[1, 2][..], &[3][..]] {
        until(PATIENCE, &format!("the side {side:?} runs all replicas"), || {
            at_least_one(lab, "sides", 3)?;
            runs_all(lab, side, "sides")
        })?;
    }
    serves_on(lab, &[1, 2, 3], 8120)?;
    let load = Load::start(lab, &[1, 2, 3], 8120, 2, Duration::from_secs(1));
    let healed = Instant::now();
    lab.heal()?;
    until(PATIENCE, "every replica runs once", || {
        at_least_one(lab, "sides", 3)?;
        Ok(lab.hosts().map(|host| host.containers_of("sides").len()).sum::<usize>() == 3)
    })?;
    let took = healed.elapsed();
    lab.until_ready("sides", 3)?;
    at_least_one(lab, "sides", 3)?;
    let (tally, reason) = load.stop()?;
    note(&format!("duplicates were gone {:.1} s after the heal; {tally:?}", took.as_secs_f64()));
    ensure!(tally.lost == 0, "requests were lost: {tally:?}: {reason}");
    app.remove(lab)
}

/// Whether the hosts of a side have three containers of an app that serve.
fn runs_all(lab: &Lab, side: &[usize], app: &str) -> Result<bool> {
    let mut n = 0;
    for host in side {
        n += lab.host(*host)?.containers_of(app).len();
    }
    let asked = side.first().copied();
    let names: Vec<String> = side.iter().map(|host| format!("n{host}")).collect();
    let claims = lab.claims(asked, app)?;
    let own = claims.iter().filter(|claim| claim.serves() && names.contains(&claim.node));
    Ok(n == 3 && own.count() == 3)
}

fn one_way(lab: &mut Lab) -> Result<()> {
    let app = App::new("oneway", 3, Some(8121));
    app.place(lab)?;
    serves_on(lab, &[1, 2, 3], 8121)?;
    let load = Load::start(lab, &[1, 2, 3], 8121, 2, Duration::from_secs(1));
    lab.cut_one_way(1, 3)?;
    let deadline = Deadline::after(Duration::from_secs(8));
    while !deadline.is_over() {
        at_least_one(lab, "oneway", 3)?;
        pause(Duration::from_millis(50));
    }
    lab.heal()?;
    lab.until_alive(3)?;
    lab.until_ready("oneway", 3)?;
    let (tally, reason) = load.stop()?;
    note(&format!("{tally:?}"));
    ensure!(tally.lost == 0, "requests were lost: {tally:?}: {reason}");
    app.remove(lab)
}

fn twins(lab: &mut Lab) -> Result<()> {
    let app = App::new("twins", 2, Some(8122));
    let path = app.write(lab)?;
    lab.cut(&[1, 2], &[3])?;
    lab.until_alive_at(3, 1)?;
    lab.until_alive_at(1, 2)?;
    lab.ctl_at(1, &["place", "--yes", &path])?.done()?;
    let lonely = lab.ctl_at(3, &["place", "--yes", &path])?;
    ensure!(matches!(lonely.code, 0 | 3), "place alone: {lonely:?}");
    lab.heal()?;
    lab.until_alive(3)?;
    lab.until_ready("twins", 2)?;
    until(PATIENCE, "all agents tell the same of one app", || {
        let told = |host| lab.claims(Some(host), "twins");
        let (one, two, three) = (told(1)?, told(2)?, told(3)?);
        ensure!(one.len() == 2, "{one:?}");
        Ok(one == two && two == three)
    })
    .context("after the heal")?;
    serves_on(lab, &[1, 2, 3], 8122)?;
    app.remove(lab)
}
