//! Agents that end, begin again, are replaced, or stand still: containers go on.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::apps::{App, at_least_one, serves_on};
use super::{Group, Story, note};
use crate::lab::{Container, Deadline, Lab, Load, PATIENCE, pause, until};

pub(super) const GROUP: Group = Group {
    name: "agents that end and begin again",
    n_hosts: 3,
    stories: &[
        Story { name: "a killed agent finds its containers again", run: killed },
        Story { name: "an agent is killed a hundred times under load", run: killed_often },
        Story { name: "a second agent on a directory is refused", run: second },
        Story { name: "an agent rebuilds a damaged store from its peers", run: damaged },
        Story { name: "a damaged store and no peer: containers wait with it", run: damaged_alone },
        Story { name: "an agent is replaced by another build in place", run: replaced },
        Story { name: "all agents restart at once", run: all_at_once },
        Story { name: "an agent stands still for 10 seconds", run: |lab| stands_still(lab, 10) },
        Story { name: "an agent stands still for a minute", run: |lab| stands_still(lab, 60) },
    ],
};

/// All containers of an app, by host.
fn everywhere(lab: &Lab, app: &str) -> BTreeMap<usize, Vec<Container>> {
    lab.hosts().map(|host| (host.number(), host.containers_of(app))).collect()
}

fn unmoved(lab: &Lab, app: &str, before: &BTreeMap<usize, Vec<Container>>) -> Result<()> {
    let now = everywhere(lab, app);
    ensure!(*before == now, "containers moved\nbefore: {before:?}\nnow: {now:?}");
    Ok(())
}

fn killed(lab: &mut Lab) -> Result<()> {
    let app = App::new("steady", 3, Some(8090));
    app.place(lab)?;
    let before = everywhere(lab, "steady");
    let host = lab.host_mut(2)?;
    host.kill_agent()?;
    host.start(&["run"])?;
    lab.until_serving(2)?;
    lab.until_ready("steady", 3)?;
    serves_on(lab, &[1, 2, 3], 8090)?;
    // Long enough for a mistaken replacement to come to light.
    pause(Duration::from_secs(3));
    lab.until_ready("steady", 3)?;
    unmoved(lab, "steady", &before)?;
    app.remove(lab)
}

/// Every other life ends somewhere else in its beginning. Those between are long enough to be heard of: an agent that nobody hears for as
/// long as M3 allows rightly loses its work.
fn killed_often(lab: &mut Lab) -> Result<()> {
    const LIVES: u64 = 100;
    const HEARD: Duration = Duration::from_millis(600);
    let app = App::new("hardy", 3, Some(8097));
    app.place(lab)?;
    serves_on(lab, &[1, 2, 3], 8097)?;
    let before = everywhere(lab, "hardy");
    let life = |lab: &Lab| -> Result<u64> {
        Ok(fs::read_to_string(lab.host(2)?.data().join("life"))?.parse()?)
    };
    let first = life(lab)?;
    let load = Load::start(lab, &[1, 2, 3], 8097, 2, Duration::from_secs(1));
    for number in 0..LIVES {
        let host = lab.host_mut(2)?;
        host.kill_agent()?;
        host.start(&["run"])?;
        pause(if number % 2 == 0 { Duration::from_millis(5 * number) } else { HEARD });
    }
    lab.until_serving(2)?;
    let (tally, reason) = load.stop()?;
    note(&format!("{tally:?}"));
    ensure!(life(lab)? > first, "no life was begun");
    ensure!(tally.lost == 0, "requests were lost: {tally:?}: {reason}");
    lab.until_alive(3)?;
    lab.until_ready("hardy", 3)?;
    serves_on(lab, &[1, 2, 3], 8097)?;
    unmoved(lab, "hardy", &before)?;
    app.remove(lab)
}

fn second(lab: &mut Lab) -> Result<()> {
    let app = App::new("only", 3, None);
    app.place(lab)?;
    let before = everywhere(lab, "only");
    let refused = |lab: &Lab, args: &[&str]| -> Result<String> {
        let ended = lab.host(2)?.agent(args);
        Ok(ended.err().map(|error| format!("{error:#}")).unwrap_or_default())
    };
    let same = refused(lab, &["run"])?;
    ensure!(same.contains("7420"), "the same port: {same:?}");
    let key = "MESH_LISTEN".to_owned();
    lab.host_mut(2)?.settings.insert(key.clone(), "0.0.0.0:7421".to_owned());
    let other = refused(lab, &["run"])?;
    lab.host_mut(2)?.settings.remove(&key);
    for told in [other, refused(lab, &["sweep"])?] {
        ensure!(told.contains("in use by another agent"), "it should be refused: {told:?}");
    }
    lab.host(2)?.check_alive()?;
    lab.until_alive(3)?;
    unmoved(lab, "only", &before)?;
    app.remove(lab)
}

/// Overwrites the middle of each file of a host's store, or all of it.
fn damage(lab: &Lab, host: usize, how: &str) -> Result<()> {
    let store = lab.host(host)?.data().join("store");
    for entry in fs::read_dir(&store)?.collect::<Result<Vec<_>, _>>()? {
        let path = entry.path();
        if !path.is_file() || path.ends_with("lock") {
            continue;
        }
        let mut bytes = fs::read(&path)?;
        match how {
            "emptied" => bytes.clear(),
            "cut" => bytes.truncate(bytes.len() / 3),
            // Where sled keeps its settings a number too many is beyond all repair.
            "scribbled" => {
                let skipped = bytes.len() / 4;
                bytes.iter_mut().skip(skipped).for_each(|byte| *byte ^= 0x5A);
            }
            "log" => {
                if path.ends_with("db") {
                    bytes.fill(0xA5);
                }
            }
            _ => anyhow::bail!("no such damage: {how}"),
        }
        fs::write(&path, bytes)?;
    }
    Ok(())
}

fn damaged(lab: &mut Lab) -> Result<()> {
    let app = App::new("rebuilt", 3, Some(8098));
    app.place(lab)?;
    let before = everywhere(lab, "rebuilt");
    for how in ["emptied", "cut", "scribbled", "log"] {
        lab.host_mut(2)?.kill_agent()?;
        damage(lab, 2, how)?;
        let life = fs::read_to_string(lab.host(2)?.data().join("life"))?;
        lab.host_mut(2)?.start(&["run"])?;
        lab.until_serving(2)?;
        lab.until_alive(3)?;
        lab.until_ready("rebuilt", 3)?;
        serves_on(lab, &[1, 2, 3], 8098)?;
        unmoved(lab, "rebuilt", &before).with_context(|| how.to_owned())?;
        let told = lab.ctl_at(2, &["events"])?.done()?;
        ensure!(told.out.contains("catalogue was lost"), "{how}: {told:?}");
        let next: u64 = fs::read_to_string(lab.host(2)?.data().join("life"))?.parse()?;
        ensure!(next > life.parse()?, "{how}: life {next} after {life}");
    }
    // Long enough for a container that is taken for a stray.
    pause(Duration::from_secs(35));
    unmoved(lab, "rebuilt", &before)?;
    app.remove(lab)
}

fn damaged_alone(lab: &mut Lab) -> Result<()> {
    let app = App::new("patient", 3, None);
    app.place(lab)?;
    let before = everywhere(lab, "patient");
    lab.host_mut(2)?.kill_agent()?;
    damage(lab, 2, "emptied")?;
    lab.cut(&[2], &[1, 3])?;
    lab.host_mut(2)?.start(&["run"])?;
    pause(Duration::from_secs(40));
    lab.host(2)?.check_alive()?;
    let own = |lab: &Lab| lab.host(2).map(|host| host.containers_of("patient"));
    ensure!(Some(&own(lab)?) == before.get(&2), "its containers did not go on: {:?}", own(lab)?);
    let log = fs::read_to_string(lab.host(2)?.log())?;
    ensure!(log.contains("nobody gives this node its catalogue"), "it does not say so");
    lab.heal()?;
    lab.until_serving(2)?;
    lab.until_alive(3)?;
    lab.until_ready("patient", 3)?;
    app.remove(lab)
}

fn replaced(lab: &mut Lab) -> Result<()> {
    let app = App::new("upgraded", 3, Some(8091));
    app.place(lab)?;
    serves_on(lab, &[1, 2, 3], 8091)?;
    let before = everywhere(lab, "upgraded");
    let load = Load::start(lab, &[1, 2, 3], 8091, 2, Duration::from_secs(1));
    for number in 1..=3 {
        let host = lab.host(number)?;
        let pid = host.agent_pid()?;
        host.replace_program(lab.programs(), b"another build")?;
        host.signal(Signal::SIGHUP)?;
        let installed = fs::metadata(host.program())?.len();
        // First it says in gossip that it restarts.
        until(PATIENCE, &format!("host {number} runs the new build"), || {
            Ok(fs::metadata(format!("/proc/{pid}/exe"))?.len() == installed)
        })?;
        lab.until_serving(number)?;
        ensure!(lab.host(number)?.agent_pid()? == pid, "the agent's process is another");
        serves_on(lab, &[number], 8091)?;
    }
    let (tally, reason) = load.stop()?;
    note(&format!("{tally:?}"));
    ensure!(tally.lost == 0, "requests were lost: {tally:?}: {reason}");
    lab.until_alive(3)?;
    lab.until_ready("upgraded", 3)?;
    unmoved(lab, "upgraded", &before)?;
    serves_on(lab, &[1, 2, 3], 8091)?;
    app.remove(lab)
}

fn all_at_once(lab: &mut Lab) -> Result<()> {
    let app = App::new("together", 3, Some(8092));
    app.place(lab)?;
    let before = everywhere(lab, "together");
    for number in 1..=3 {
        lab.host_mut(number)?.kill_agent()?;
    }
    for number in 1..=3 {
        lab.host_mut(number)?.start(&["run"])?;
    }
    for number in 1..=3 {
        lab.until_serving(number)?;
    }
    lab.until_alive(3)?;
    lab.until_ready("together", 3)?;
    serves_on(lab, &[1, 2, 3], 8092)?;
    pause(Duration::from_secs(3));
    lab.until_ready("together", 3)?;
    unmoved(lab, "together", &before)?;
    app.remove(lab)
}

fn stands_still(lab: &mut Lab, seconds: u64) -> Result<()> {
    let app = App::new("still", 3, Some(8093));
    app.place(lab)?;
    lab.host(3)?.signal(Signal::SIGSTOP)?;
    let deadline = Deadline::after(Duration::from_secs(seconds));
    let watched = || {
        while !deadline.is_over() {
            at_least_one(lab, "still", 3)?;
            pause(Duration::from_millis(50));
        }
        serves_on(lab, &[1, 2], 8093)
    };
    let seen = watched();
    lab.host(3)?.signal(Signal::SIGCONT)?;
    seen?;
    until(PATIENCE, "every replica runs once", || {
        at_least_one(lab, "still", 3)?;
        Ok(everywhere(lab, "still").values().map(Vec::len).sum::<usize>() == 3)
    })?;
    lab.until_alive(3)?;
    lab.until_ready("still", 3)?;
    serves_on(lab, &[1, 2, 3], 8093)?;
    app.remove(lab)
}
