//! A service that must never run twice, on a disk that stands still: its program cannot be killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::apps::remove;
use super::note;
use crate::lab::{Claim, Disk, Lab, PATIENCE, until};
use crate::nemesis::push_image;

const APP: &str = "hung";

/// By the shortest lease that there is, and by a program that writes all the time.
const MANIFEST: &str = "name: hung
services:
  web:
    image: ticker:1
    stop_grace_period: 1s
    x-mesh: {guarantee: exclusive, lease: {ttl: 6s}}
";

/// Where disks are made of files.
const LOOPS: &str = "/dev/loop-control";

/// How long it takes until another host has it, at the most.
const MOVES: Duration = Duration::from_secs(30);

/// The process of the app on a host, and its state by the kernel's word.
fn process(lab: &Lab, host: usize) -> Result<Option<(i32, char)>> {
    let containers = lab.host(host)?.containers_of(APP);
    Ok(containers.first().and_then(|container| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", container.pid)).ok()?;
        Some((container.pid, stat.rsplit_once(") ")?.1.chars().next()?))
    }))
}

/// Whether the network of a process is up, but for its loopback.
fn is_connected(pid: i32) -> Result<bool> {
    let target = pid.to_string();
    let args = ["--net", "--target", &target, "ip", "-o", "link", "show", "eth0"];
    let shown = crate::lab::shell::run("nsenter", &args)?;
    let flags = shown.split(['<', '>']).nth(1).context("an interface has flags")?;
    Ok(flags.split(',').any(|flag| flag == "UP"))
}

/// Its host is cut off, and its lease runs out. Before another host may have it, its network is taken away; it is told of, and goes
/// when its disk answers.
pub(super) fn hung(lab: &mut Lab) -> Result<()> {
    if !Path::new(LOOPS).exists() {
        note("skipped: no loop devices");
        return Ok(());
    }
    push_image(lab)?;
    let disks = (1..=3).map(|host| lab.host(host)?.disk_for_containers());
    let disks: Vec<Disk> = disks.collect::<Result<_>>()?;
    let dir = lab.dir().join("desk").join(APP);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("compose.yaml"), MANIFEST)?;
    lab.ctl(&["place", "--yes", &dir.to_string_lossy()])?.done()?;
    lab.until_ready(APP, 1)?;
    let runs = |host: &usize| lab.host(*host).is_ok_and(|it| !it.containers_of(APP).is_empty());
    let first = (1..=3).find(runs).context("nobody runs it")?;
    let disk = disks.get(first - 1).context("each host has one")?;
    disk.freeze()?;
    until(PATIENCE, "its program hangs", || Ok(matches!(process(lab, first)?, Some((_, 'D')))))?;
    let (pid, _) = process(lab, first)?.context("it is there")?;
    ensure!(is_connected(pid)?, "it is not connected");
    let others: Vec<usize> = (1..=3).filter(|host| *host != first).collect();
    lab.cut(&[first], &others)?;
    until(MOVES, "another host runs it", || Ok(others.iter().any(runs)))?;
    ensure!(process(lab, first)? == Some((pid, 'D')), "it was to hang until now");
    ensure!(!is_connected(pid)?, "another runs, and it is connected");
    told(lab, first, pid)?;
    disk.thaw()?;
    until(PATIENCE, "nothing is left of it", || Ok(process(lab, first)?.is_none()))?;
    until(PATIENCE, "that is told", || {
        let events = lab.ctl_at(first, &["events", "-n", "200"])?.done()?;
        Ok(events.out.contains("nothing is left of what survived SIGKILL"))
    })?;
    lab.until_ready(APP, 1)?;
    remove(lab, APP)
}

/// What the host itself says of it, while it is cut off, and what everybody is shown then.
fn told(lab: &Lab, first: usize, pid: i32) -> Result<()> {
    let left = format!("process {pid} (ticker) in state D");
    let wanted = [left.as_str(), "survives SIGKILL; its network is cut", "reboot the host"];
    until(PATIENCE, "its host tells of it", || {
        // It cannot ask the others for theirs.
        let events = lab.ctl_at(first, &["events", "-n", "200"])?;
        Ok(events.out.lines().any(|line| wanted.iter().all(|part| line.contains(part))))
    })?;
    lab.heal()?;
    lab.until_alive(3)?;
    until(PATIENCE, "everybody is shown it", || {
        let is_it = |claim: &Claim| {
            claim.phase == "stopping" && claim.detail.contains("survives SIGKILL; its network")
        };
        Ok(lab.claims(None, APP)?.iter().any(is_it))
    })?;
    let why = lab.ctl_at(first, &["why", "hung/web/0"])?.done()?;
    ensure!(why.out.contains("survives SIGKILL; its network is cut"), "{}", why.out);
    let line = why.out.lines().find(|line| line.contains("survives SIGKILL")).unwrap_or_default();
    note(line.trim());
    Ok(())
}
