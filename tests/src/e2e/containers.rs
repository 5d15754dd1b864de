//! Containers that behave badly, shims that are killed, and images that rot: the host and its other containers go on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::apps::{App, remove, serves_on};
use super::{Group, Story, note};
use crate::lab::{Lab, PATIENCE, process, until};

pub(super) const GROUP: Group = Group {
    name: "containers that behave badly",
    n_hosts: 3,
    stories: &[
        Story { name: "a container forks without end and hurts nobody else", run: forks },
        Story { name: "a container ignores the signal to stop", run: deaf },
        Story { name: "a container writes a gigabyte of logs", run: floods },
        Story { name: "a shim is killed, and another stands still", run: shims },
        Story { name: "an image rots on a disk and is fetched again", run: rots },
        Story { name: "an image rots everywhere and is pushed again", run: rots_everywhere },
    ],
};

/// The program that does what its arguments say.
const PAYLOAD: &str = "/mesh-test-payload";

/// More than all files of a container's log, which are three of 10 MiB.
const LOG_LEN_MAX: u64 = 31 << 20;

fn push(lab: &Lab) -> Result<()> {
    let archive = lab.dir().join("desk/payload.tar");
    let packed = Command::new(lab.programs().path("pack-image"))
        .args(["--name", "payload:1", "--entrypoint", PAYLOAD])
        .arg(&archive)
        .arg(lab.programs().path("mesh-test-payload"))
        .output()
        .context("cannot run pack-image")?;
    ensure!(packed.status.success(), "pack-image: {}", String::from_utf8_lossy(&packed.stderr));
    lab.ctl(&["image", "push", &archive.to_string_lossy()])?.done().map(drop)
}

/// Places an app of one service on the host with the label `role=odd`; `more` are lines of the service.
fn place(lab: &Lab, app: &str, command: &str, more: &[&str]) -> Result<()> {
    let mut lines = vec![
        format!("name: {app}"),
        "services:".to_owned(),
        "  web:".to_owned(),
        "    image: payload:1".to_owned(),
        format!("    command: [{command}]"),
    ];
    // The program does not listen to SIGTERM.
    if !more.iter().any(|line| line.starts_with("stop_grace_period")) {
        lines.push("    stop_grace_period: 1s".to_owned());
    }
    lines.extend(more.iter().map(|line| format!("    {line}")));
    lines.push("    deploy:".to_owned());
    lines.push("      placement: {constraints: [\"node.labels.role == odd\"]}".to_owned());
    let dir = lab.dir().join("desk").join(app);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("compose.yaml"), lines.join("\n") + "\n")?;
    lab.ctl(&["place", "--yes", "--detach", &dir.to_string_lossy()])?.done().map(drop)
}

/// Host 2 is the one where all goes wrong.
fn prepare(lab: &Lab) -> Result<()> {
    push(lab)?;
    lab.ctl(&["node", "label", "n2", "role=odd"])?.done().map(drop)
}

fn until_event(lab: &Lab, words: &str) -> Result<()> {
    until(PATIENCE, &format!("an event says {words:?}"), || {
        let told = lab.ctl(&["events", "-n", "500"])?.done()?.out;
        ensure!(told.contains(words), "{told}");
        Ok(true)
    })
}

/// The one container of an app on host 2.
fn container(lab: &Lab, app: &str) -> Result<process::Container> {
    let mut all = lab.host(2)?.containers_of(app);
    ensure!(all.len() == 1, "{app} has {} containers on host 2", all.len());
    all.pop().context("none")
}

fn files_of(lab: &Lab, container: &process::Container) -> Result<PathBuf> {
    Ok(lab.host(2)?.data().join("containers").join(&container.id))
}

/// The shim of a container.
fn shim(lab: &Lab, container: &process::Container) -> Result<Pid> {
    let text = fs::read_to_string(files_of(lab, container)?.join("state.json"))?;
    let state: Value = serde_json::from_str(&text)?;
    let pid = state.pointer("/shim/pid").and_then(Value::as_i64).context("it has no shim")?;
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

fn forks(lab: &mut Lab) -> Result<()> {
    prepare(lab)?;
    let well = App::new("well", 3, Some(8120)).deployed("placement: {max_replicas_per_node: 1}\n");
    well.place(lab)?;
    let before = lab.host(2)?.containers_of("well");
    let health = format!(
        "healthcheck: {{test: [CMD, {PAYLOAD}, out, well], interval: 1s, timeout: 5s, retries: 3}}"
    );
    place(lab, "bomb", "bomb", &[&health])?;
    until_event(lab, "it has reached its limit of 4096 processes")?;
    let begun = Instant::now();
    let status = lab.ctl_at(2, &["status"])?.done()?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "the agent took {:?}", begun.elapsed());
    ensure!(status.out.contains("n2"), "its status: {status:?}");
    serves_on(lab, &[2], 8120)?;
    ensure!(lab.host(2)?.containers_of("well") == before, "its neighbour was started again");
    remove(lab, "bomb")?;
    let node = lab.host(2)?.node().context("host 2 has no node")?;
    let left = process::in_group(&format!("/agentmesh/{node}/bomb"));
    ensure!(left.is_empty(), "{} processes are left", left.len());
    lab.until_alive(3)?;
    well.remove(lab)
}

fn deaf(lab: &mut Lab) -> Result<()> {
    prepare(lab)?;
    place(lab, "deaf", "ignore, \"15\", out, up, loop", &["stop_grace_period: 3s"])?;
    lab.until_ready("deaf", 1)?;
    let begun = Instant::now();
    remove(lab, "deaf")?;
    let took = begun.elapsed();
    ensure!(took >= Duration::from_secs(3), "it had {took:?} and not its grace");
    ensure!(took < Duration::from_secs(10), "it took {took:?}");
    let log = fs::read_to_string(lab.host(2)?.log())?;
    ensure!(log.contains("did not stop within its grace"), "the agent does not say so");
    Ok(())
}

fn floods(lab: &mut Lab) -> Result<()> {
    prepare(lab)?;
    let begun = Instant::now();
    place(lab, "flood", "flood, \"1024\", out, done, loop", &[])?;
    lab.until_ready("flood", 1)?;
    let one = container(lab, "flood")?;
    let dir = files_of(lab, &one)?.join("log");
    let size = || -> Result<u64> {
        fs::read_dir(&dir)?.map(|file| Ok(file?.metadata().map_or(0, |file| file.len()))).sum()
    };
    let mut most = 0;
    let last = |lab: &Lab| lab.ctl_at(2, &["logs", "-n", "1", "flood"]);
    until(Duration::from_secs(300), "all of it is written", || {
        most = most.max(size()?);
        Ok(last(lab)?.done()?.out.contains("done"))
    })?;
    let took = begun.elapsed();
    most = most.max(size()?);
    ensure!(most <= LOG_LEN_MAX, "the log took {most} bytes");
    let all = lab.ctl_at(2, &["logs", "-n", "100000", "flood"])?.done()?;
    let first = all.err.trim();
    ensure!(first.contains("of older output had to make room"), "nothing is said: {first}");
    note(&format!("1 GiB in {took:?}, {} MiB kept; {first}", most >> 20));
    ensure!(container(lab, "flood")? == one, "the container was started again");
    remove(lab, "flood")
}

fn shims(lab: &mut Lab) -> Result<()> {
    prepare(lab)?;
    place(lab, "orphan", "out, up, loop", &["stop_grace_period: 20s"])?;
    lab.until_ready("orphan", 1)?;
    let first = container(lab, "orphan")?;
    let mounts = || -> Result<usize> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(mounts.lines().filter(|line| line.contains(&first.id)).count())
    };
    let before = mounts()?;
    kill(shim(lab, &first)?, Signal::SIGKILL)?;
    until_event(lab, "orphan/web/0: ended, and how is not known")?;
    until(PATIENCE, "it was started again", || {
        let claims = lab.claims(None, "orphan")?;
        Ok(claims.iter().any(|claim| claim.serves() && claim.restarts == 1))
    })?;
    let second = container(lab, "orphan")?;
    ensure!(second.pid != first.pid, "it is the same process");
    ensure!(mounts()? == before, "{} mounts, and {before} before", mounts()?);
    // One that is not started again tells it for as long as it is there.
    place(lab, "once", "out, up, loop", &["restart: \"no\""])?;
    lab.until_ready("once", 1)?;
    kill(shim(lab, &container(lab, "once")?)?, Signal::SIGKILL)?;
    until(PATIENCE, "it is shown what became of it", || {
        let (ps, why) = (lab.ctl(&["ps", "once"])?, lab.ctl(&["why", "once/web/0"])?);
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = [words(&ps.out), words(&why.out)];
        ensure!(told.iter().all(|told| told.contains("how is not known")), "{told:#?}");
        Ok(true)
    })?;
    remove(lab, "once")?;

    // Whoever waits for the container stands still: the agent does not, and neither does the container.
    kill(shim(lab, &second)?, Signal::SIGSTOP)?;
    let begun = Instant::now();
    lab.ctl_at(2, &["status"])?.done()?;
    lab.ctl_at(2, &["exec", "orphan/web/0", "--", PAYLOAD, "out", "well"])?.done()?;
    lab.ctl_at(2, &["logs", "orphan"])?.done()?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    kill(Pid::from_raw(second.pid), Signal::SIGKILL)?;
    until_event(lab, "orphan/web/0: ended with exit code 137")?;
    // Not before its shim has said so: one that stands still while it starts a container is waited for.
    until(PATIENCE, "it was started again", || {
        let claims = lab.claims(None, "orphan")?;
        Ok(claims.iter().any(|claim| claim.serves() && claim.restarts == 2))
    })?;
    let begun = Instant::now();
    kill(shim(lab, &container(lab, "orphan")?)?, Signal::SIGSTOP)?;
    remove(lab, "orphan")?;
    // It does not listen to SIGTERM, and has 20 s for that.
    ensure!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    ensure!(mounts()? == 0, "{} mounts are left", mounts()?);
    Ok(())
}

/// The blobs of the image on a host: the largest is the layer.
fn layer(lab: &Lab, host: usize) -> Result<PathBuf> {
    let len = fs::metadata(lab.programs().path("mesh-test-payload"))?.len();
    let dir = lab.host(host)?.data().join("images/blobs/sha256");
    let files = fs::read_dir(&dir)?.collect::<Result<Vec<_>, _>>()?;
    let sizes = files.iter().map(|file| Ok((file.metadata()?.len(), file.path())));
    let sizes = sizes.collect::<Result<Vec<_>>>()?;
    // The tar of the program is as long as the program and a little more; another image has another program.
    let nearest = sizes.into_iter().min_by_key(|(size, _)| size.abs_diff(len));
    let (size, path) = nearest.context("no blobs")?;
    ensure!(size.abs_diff(len) < 16 << 10, "host {host} does not have the layer");
    Ok(path)
}

/// Overwrites a byte in the middle.
fn flip(path: &PathBuf) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    let byte = bytes.get_mut(middle).context("an empty blob")?;
    *byte ^= 1;
    fs::write(path, bytes).map_err(Into::into)
}

/// Unpacked layers are not compared with anything again, so they go.
fn forget_unpacked(lab: &Lab, host: usize) -> Result<()> {
    let dir = lab.host(host)?.data().join("images/layers");
    fs::remove_dir_all(&dir)?;
    fs::create_dir(&dir).map_err(Into::into)
}

fn rots(lab: &mut Lab) -> Result<()> {
    prepare(lab)?;
    until(PATIENCE, "host 2 has the image", || Ok(layer(lab, 2).is_ok()))?;
    let path = layer(lab, 2)?;
    let whole = fs::read(&path)?;
    let name = path.file_name().context("a blob without a name")?.to_string_lossy().into_owned();
    for (how, is_told) in [("flipped", true), ("cut off", true), ("removed", false)] {
        forget_unpacked(lab, 2)?;
        match how {
            "flipped" => flip(&path)?,
            "cut off" => fs::write(&path, whole.get(..whole.len() / 2).unwrap_or_default())?,
            _ => fs::remove_file(&path)?,
        }
        let app = format!("rot-{}", how.replace(' ', "-"));
        place(lab, &app, "out, up, loop", &[])?;
        lab.until_ready(&app, 1).context(how)?;
        ensure!(fs::read(&path)? == whole, "{how}: the blob was not fetched again");
        if is_told {
            until_event(lab, &format!("sha256:{name} was damaged on this node's disk"))?;
        }
        let log = fs::read_to_string(lab.host(2)?.log())?;
        let n_told = log.lines().filter(|line| line.contains("a blob was damaged")).count();
        ensure!(n_told >= usize::from(is_told), "{how}: its log does not say so");
        remove(lab, &app)?;
    }
    Ok(())
}

/// Nobody has it whole: it does not run, and says why; a push heals it.
fn rots_everywhere(lab: &mut Lab) -> Result<()> {
    prepare(lab)?;
    forget_unpacked(lab, 2)?;
    for host in 1..=3 {
        if let Ok(path) = layer(lab, host) {
            flip(&path)?;
        }
    }
    place(lab, "rotten", "out, up, loop", &[])?;
    until_event(lab, "cannot start: no reachable node has sha256:")?;
    ensure!(lab.host(2)?.containers_of("rotten").is_empty(), "it runs");
    let heard = lab.hosts().map(|host| fs::read_to_string(host.log()).unwrap_or_default());
    let n_told = heard.filter(|log| log.contains("a blob was damaged")).count();
    ensure!(n_told > 0, "nobody says what was wrong");
    push(lab)?;
    lab.until_ready("rotten", 1)?;
    remove(lab, "rotten")
}
