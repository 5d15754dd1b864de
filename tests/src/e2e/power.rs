//! Hosts that lose power, for a while or with their disks.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::apps::{App, at_least_one, serves_on};
use super::{Group, Story, note};
use crate::lab::{Lab, Load, PATIENCE, pause, until};

pub(super) const GROUP: Group = Group {
    name: "hosts that lose power",
    n_hosts: 3,
    stories: &[
        Story { name: "a host loses power and comes back", run: power_failure },
        Story { name: "what was acknowledged survives the entry node's disk", run: disk_lost },
    ],
};

pub(super) const TWO: Group = Group {
    name: "two hosts",
    n_hosts: 2,
    stories: &[Story { name: "of two hosts one dies and the other reboots alone", run: last_one }],
};

/// Starting a container takes a moment beyond the bound, which is for the claim.
const START: Duration = Duration::from_secs(5);

fn power_failure(lab: &mut Lab) -> Result<()> {
    let app = App::new("power", 3, Some(8100));
    app.place(lab)?;
    serves_on(lab, &[1, 2, 3], 8100)?;
    let bound = lab.bound("power")?;
    let load = Load::start(lab, &[1, 2, 3], 8100, 2, Duration::from_millis(500));
    pause(Duration::from_millis(500));
    lab.power_off(3)?;
    until(bound + START + PATIENCE, "the others run all replicas", || {
        let claims = lab.claims(Some(1), "power")?;
        Ok(claims.iter().filter(|claim| claim.serves() && claim.node != "n3").count() == 3)
    })?;
    let claims = lab.claims(Some(1), "power")?;
    let failover = claims.iter().filter(|claim| claim.serves()).filter_map(|one| one.failover_ms);
    let failover = Duration::from_millis(failover.max().unwrap_or(0));
    ensure!(!failover.is_zero(), "no failover was measured: {claims:?}");
    ensure!(failover <= bound + START, "a failover of {failover:?}; the bound is {bound:?}");
    let (tally, reason) = load.stop()?;
    note(&format!(
        "failover {failover:?}, bound {bound:?}; {} sent, {} lost at first, {} after a retry",
        tally.sent, tally.lost_at_first, tally.lost
    ));
    ensure!(tally.lost * 100 <= tally.sent, "{tally:?}: {reason}");
    serves_on(lab, &[1, 2], 8100)?;
    lab.power_on(3)?;
    lab.until_alive(3)?;
    lab.until_ready("power", 3)?;
    serves_on(lab, &[1, 2, 3], 8100)?;
    app.remove(lab)
}

/// Places at one node, which is destroyed as soon as it has said that it is done.
fn disk_lost(lab: &mut Lab) -> Result<()> {
    for round in 0..3 {
        let name = format!("kept{round}");
        let app = App::new(&name, 2, None);
        let path = app.write(lab)?;
        lab.ctl_at(3, &["place", "--yes", "--detach", &path])?.done()?;
        lab.power_off(3)?;
        lab.host(3)?.destroy_disk()?;
        lab.until_alive(2)?;
        lab.until_ready(&name, 2)?;
        lab.ctl(&["node", "forget", "--yes", "n3"])?.done()?;
        lab.plug_in(3)?;
        lab.join(3)?;
        lab.until_alive(3)?;
        app.remove(lab)?;
    }
    Ok(())
}

fn last_one(lab: &mut Lab) -> Result<()> {
    let app = App::new("pair", 2, Some(8110));
    app.place(lab)?;
    lab.power_off(1)?;
    until(PATIENCE, "the survivor runs both replicas", || {
        let claims = lab.claims(Some(2), "pair")?;
        Ok(claims.iter().filter(|claim| claim.serves() && claim.node == "n2").count() == 2)
    })?;
    serves_on(lab, &[2], 8110)?;
    lab.power_off(2)?;
    lab.power_on(2)?;
    until(PATIENCE, "the survivor runs both replicas after its own reboot", || {
        Ok(at_least_one(lab, "pair", 2).is_ok())
    })?;
    serves_on(lab, &[2], 8110)?;
    lab.power_on(1)?;
    lab.until_alive(2)?;
    lab.until_ready("pair", 2)?;
    serves_on(lab, &[1, 2], 8110)?;
    app.remove(lab)
}
