//! Nodes that join, are removed, or were away for long.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::apps::{App, remove};
use super::{Group, Story};
use crate::lab::{Lab, PATIENCE, pause, until};

pub(super) const GROUP: Group = Group {
    name: "nodes that come and go",
    n_hosts: 3,
    stories: &[
        Story {
            name: "a global service extends to a node that joins while others place",
            run: grow,
        },
        Story { name: "a removed node is refused at once", run: removed },
        Story {
            name: "a node that was cut off when it was removed stops when it is back",
            run: removed_afar,
        },
        Story {
            name: "a join whose answer was lost is made up for with the same token",
            run: again,
        },
        Story { name: "an agent that was off for a year rejoins", run: year_off },
    ],
};

/// A year, in seconds.
const YEAR: &str = "31536000";

fn grow(lab: &mut Lab) -> Result<()> {
    let mut global = App::new("everywhere", 3, None);
    global.deploy = "mode: global\n".to_owned();
    global.place(lab)?;
    let token = lab.token()?;
    let paths: Vec<String> = (0..6)
        .map(|number| App::new(&format!("busy{number}"), 2, None).write(lab))
        .collect::<Result<_>>()?;
    for (number, path) in paths.iter().enumerate() {
        lab.ctl(&["place", "--yes", "--detach", path])?.done()?;
        if number == 2 {
            lab.add_host(4)?;
            lab.join_with(4, &token)?;
        }
    }
    lab.until_alive(4)?;
    lab.until_ready("everywhere", 4)?;
    for number in 0..6 {
        lab.until_ready(&format!("busy{number}"), 2)?;
    }
    ensure!(!lab.host(4)?.containers_of("everywhere").is_empty(), "host 4 runs no container");
    for number in 0..6 {
        remove(lab, &format!("busy{number}"))?;
    }
    remove(lab, "everywhere")
}

/// Connections of a host's agent with the API of others, either way.
fn connections(lab: &Lab, host: usize, with: usize) -> Result<usize> {
    let pid = lab.host(host)?.agent_pid()?;
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    // Addresses are in the order of the machine's bytes, as the kernel keeps them.
    let peer = format!("{with:02X}004D0A:");
    let api = format!(":{:04X}", 7420);
    let is_one = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let (own, other, state) = (words.next(), words.next(), words.next());
        let (own, other) = (own.unwrap_or_default(), other.unwrap_or_default());
        state == Some("01")
            && other.starts_with(&peer)
            && (own.ends_with(&api) || other.ends_with(&api))
    };
    Ok(table.lines().filter(is_one).count())
}

fn removed(lab: &mut Lab) -> Result<()> {
    if lab.host(4).is_err() {
        lab.add_host(4)?;
        lab.join(4)?;
        lab.until_alive(4)?;
    }
    let app = App::new("spread", 4, None);
    app.place(lab)?;
    ensure!(connections(lab, 1, 4)? > 0, "host 1 has no connection with host 4 to close");
    lab.ctl(&["node", "rm", "--yes", "n4"])?.done()?;
    until(Duration::from_secs(10), "no connection with the removed node is open", || {
        Ok((1..=3).map(|host| connections(lab, host, 4)).sum::<Result<usize>>()? == 0)
    })?;
    until(PATIENCE, "the others run its replicas", || {
        let claims = lab.claims(Some(1), "spread")?;
        Ok(claims.iter().filter(|claim| claim.serves() && claim.node != "n4").count() == 4)
    })?;
    // Neither it nor a new life of it gets in again.
    lab.host_mut(4)?.kill_agent()?;
    lab.host_mut(4)?.start(&["run"])?;
    pause(Duration::from_secs(3));
    ensure!((1..=3).all(|host| connections(lab, host, 4).is_ok_and(|n| n == 0)), "it got in");
    ensure!(lab.n_alive()? == 3, "the removed node counts as alive");
    lab.power_off(4)?;
    app.remove(lab)
}

/// The same for one that is cut off and runs, and for one whose agent was down: both learn of it from the first member they dial.
fn removed_afar(lab: &mut Lab) -> Result<()> {
    for number in [5, 6] {
        lab.add_host(number)?;
        lab.join(number)?;
    }
    lab.until_alive(5)?;
    // One replica for each node, so that all of them run something.
    let app = App::new("afar", 5, None).deployed("placement: {max_replicas_per_node: 1}\n");
    app.place(lab)?;
    // agentctl forgets the keys of removed nodes, and this is about what they say themselves.
    let config = lab.home().join("before.json").to_string_lossy().into_owned();
    fs::copy(lab.operator_config(), &config)?;
    lab.cut(&[5], &[1, 2, 3, 6])?;
    lab.host_mut(6)?.kill_agent()?;
    lab.until_alive(3)?;
    for name in ["n5", "n6"] {
        lab.ctl(&["node", "rm", "--yes", name])?.done()?;
    }
    pause(Duration::from_secs(3));
    for number in [5, 6] {
        ensure!(!lab.host(number)?.containers_of("afar").is_empty(), "n{number} stopped unasked");
    }
    lab.heal()?;
    lab.host_mut(6)?.start(&["run"])?;
    for number in [5, 6] {
        until(PATIENCE, &format!("host {number} runs nothing any more"), || {
            Ok(lab.host(number)?.containers().is_empty())
        })?;
        let log = fs::read_to_string(lab.host(number)?.log())?;
        ensure!(log.contains("this node was removed from the mesh"), "n{number} does not say so");
        let agent = format!("10.77.0.{number}:7420");
        let told = lab.ctl(&["--config", &config, "--agent", &agent, "status"])?.done()?;
        ensure!(told.out.contains("was removed from the mesh"), "its status: {told:?}");
        pause(Duration::from_secs(1));
        ensure!(connections(lab, 1, number)? == 0, "n{number} still dials n1");
        lab.power_off(number)?;
    }
    lab.until_alive(3)?;
    app.remove(lab)
}

fn again(lab: &mut Lab) -> Result<()> {
    // Not one of those that the other stories had.
    lab.add_host(7)?;
    let token = lab.token()?;
    let host = lab.host(7)?;
    let name = host.name();
    let join = ["join", "--no-run", "--token", &token, "--node-name", &name];
    host.agent(&join)?;
    // The mesh has admitted it, and it does not know: the answer, which it would have stored, was lost.
    fs::remove_file(host.data().join("mesh.json"))?;
    fs::remove_dir_all(host.data().join("store"))?;
    lab.join_with(7, &token)?;
    lab.until_alive(4)?;
    lab.ctl(&["node", "rm", "--yes", "n7"])?.done()?;
    lab.power_off(7)?;
    lab.until_alive(3)
}

fn year_off(lab: &mut Lab) -> Result<()> {
    lab.power_off(3)?;
    // The year passes for all of them; the two that live restart sometime in it.
    for number in 1..=3 {
        let settings = &mut lab.host_mut(number)?.settings;
        settings.insert("MESH_WALL_CLOCK_OFFSET".to_owned(), YEAR.to_owned());
    }
    for number in 1..=2 {
        let host = lab.host_mut(number)?;
        host.stop_agent()?;
        host.start(&["run"])?;
        lab.until_serving(number)?;
    }
    lab.until_alive(2)?;
    let app = App::new("news", 3, None);
    let path = app.write(lab)?;
    lab.ctl(&["place", "--yes", &path])?.done()?;
    lab.power_on(3)?;
    lab.until_alive(3)?;
    lab.until_ready("news", 3)?;
    let told = lab.ctl_at(3, &["ps", "news"])?.done()?;
    ensure!(told.out.contains("news/web"), "host 3 does not know what happened: {told:?}");
    app.remove(lab)
}
