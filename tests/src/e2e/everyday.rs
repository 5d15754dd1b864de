//! What one does every day, and that it leaves nothing behind.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::apps::{App, serves_on};
use super::{Group, Story, nothing};
use crate::lab::{Lab, PATIENCE, until};

pub(super) const GROUP: Group = Group {
    name: "every day",
    n_hosts: 3,
    stories: &[
        Story { name: "a placed app serves on every host", run: placed_app_serves },
        Story { name: "logs and exec work from any agent for any replica", run: logs_and_exec },
        Story { name: "rm leaves nothing on any host", run: rm_leaves_nothing },
    ],
};

fn placed_app_serves(lab: &mut Lab) -> Result<()> {
    let app = App::new("web3", 3, Some(8080));
    app.place(lab)?;
    serves_on(lab, &[1, 2, 3], 8080)?;
    let claims = lab.claims(None, "web3")?;
    let nodes: BTreeSet<&str> = claims.iter().map(|claim| claim.node.as_str()).collect();
    ensure!(nodes.len() == 3, "three replicas are not on three nodes: {claims:?}");
    for host in lab.hosts() {
        let n = host.containers_of("web3").len();
        ensure!(n == 1, "{} runs {n} containers of web3", host.name());
    }
    app.remove(lab)
}

fn logs_and_exec(lab: &mut Lab) -> Result<()> {
    let app = App::new("talker", 3, Some(8081));
    app.place(lab)?;
    for host in 1..=3 {
        for index in 0..3 {
            let slot = format!("talker/web/{index}");
            let asked = lab.ctl_at(host, &["exec", &slot, "--", "/hello", "health"])?;
            ensure!(asked.code == 0, "exec {slot} by host {host}: {asked:?}");
            let wrong = lab.ctl_at(host, &["exec", &slot, "--", "/hello", "nonsense"])?;
            ensure!(wrong.code == 2 && wrong.err.contains("usage"), "its exit code: {wrong:?}");
        }
        let logs = lab.ctl_at(host, &["logs", "talker"])?.done()?;
        for index in 0..3 {
            ensure!(logs.out.contains(&format!("web/{index}")), "no log of {index}: {logs:?}");
        }
    }
    follows(lab)?;
    app.remove(lab)
}

/// A follower sees a line that is written after it has begun.
fn follows(lab: &Lab) -> Result<()> {
    let follower = lab.follow(&["logs", "-f", "-n", "0", "talker"])?;
    crate::lab::pause(Duration::from_secs(1));
    let before = follower.printed();
    let host = lab.host_of("talker", "talker/web/1")?;
    let one = lab.host(host)?.containers_of("talker");
    let one = one.first().context("no container")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(one.pid), nix::sys::signal::Signal::SIGKILL)?;
    until(PATIENCE, "the follower sees the restarted replica's first line", || {
        Ok(follower.printed().len() > before.len())
    })
}

fn rm_leaves_nothing(lab: &mut Lab) -> Result<()> {
    let app = App::new("brief", 4, Some(8082));
    app.place(lab)?;
    app.remove(lab)?;
    let mut left = Vec::new();
    let looked = until(PATIENCE, "the hosts are empty", || {
        left.clear();
        for host in lab.hosts() {
            left.extend(host.traces()?);
        }
        Ok(left.is_empty())
    });
    nothing(left).and(looked)
}
