//! What one does every day, and that it leaves nothing behind.

mod screen;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::apps::{App, serves_on};
use super::{Group, Story, nothing};
use crate::lab::{Answer, Follower, Lab, PATIENCE, pause, until};

pub(super) const GROUP: Group = Group {
    name: "every day",
    n_hosts: 3,
    stories: &[
        Story { name: "a placed app serves on every host", run: placed_app_serves },
        Story { name: "logs and exec work from any agent for any replica", run: logs_and_exec },
        Story { name: "every question is answered by every agent", run: any_agent },
        Story { name: "tables fit the terminal, and a pipe gets all of them", run: screen::fits },
        Story { name: "place of what can never run ends, says why and what to do", run: hopeless },
        Story { name: "agentctl asks another agent when the first is dead", run: dead_first },
        Story { name: "a stranger's key is refused", run: stranger },
        Story { name: "resources and constraints are respected", run: limits_of_nodes },
        Story { name: "a failing health check is reported", run: unhealthy },
        Story { name: "a container that eats too much is reported and restarted", run: greedy },
        Story { name: "a killed shim takes its container along, and both come again", run: shim },
        Story { name: "sweep empties a host, and the agent fills it again", run: sweep },
        Story { name: "rm leaves nothing on any host", run: rm_leaves_nothing },
        Story { name: "stop, scale and rm answer when the containers are gone", run: graces },
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
        let greeted =
            lab.typed_at(host, &["exec", "-it", "talker/web/0", "--", "/hello", "ask"], "Ada\r")?;
        ensure!(
            greeted.code == 0 && greeted.out.contains("Hello, Ada."),
            "a terminal: {greeted:?}"
        );
        let logs = lab.ctl_at(host, &["logs", "talker"])?.done()?;
        for index in 0..3 {
            ensure!(logs.out.contains(&format!("web/{index}")), "no log of {index}: {logs:?}");
        }
    }
    follows(lab)?;
    app.remove(lab)
}

/// Followers at every agent see what a replica writes after they have begun.
fn follows(lab: &Lab) -> Result<()> {
    let agents: Vec<String> = (1..=3).map(|host| format!("10.77.0.{host}:7420")).collect();
    let args = ["logs", "-f", "-n", "0", "talker"];
    let followers: Vec<Follower> = agents
        .iter()
        .map(|agent| lab.follow(&[&["--agent", agent], &args[..]].concat()))
        .collect::<Result<_>>()?;
    // A follower says nothing when it is ready.
    pause(Duration::from_secs(1));
    let before: Vec<usize> = followers.iter().map(|one| one.printed().len()).collect();
    let host = lab.host_of("talker", "talker/web/1")?;
    let containers = lab.host(host)?.containers_of("talker");
    let one = containers.iter().find(|one| one.id.starts_with("talker-web-1-"));
    kill(Pid::from_raw(one.context("no container")?.pid), Signal::SIGKILL)?;
    until(PATIENCE, "all followers see the first line of its next life", || {
        Ok(followers.iter().zip(&before).all(|(one, before)| one.printed().len() > *before))
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

/// Containers that do not care for their signal run until their grace is over, and so long nobody says that they are gone.
fn graces(lab: &mut Lab) -> Result<()> {
    let app = App::new("deaf", 3, None).with("stop_signal: SIGUSR1");
    app.place(lab)?;
    let running = |lab: &Lab| lab.hosts().map(|host| host.containers_of("deaf").len()).sum();
    for (args, n_left) in [
        (&["scale", "--yes", "deaf/web=2"][..], 2),
        (&["stop", "deaf"], 0),
        (&["start", "deaf"], 2),
        (&["rm", "--yes", "deaf"], 0),
    ] {
        let told = lab.ctl(args)?.done()?;
        let n: usize = running(lab);
        ensure!(n == n_left, "{n} containers run when {args:?} is told to be done: {told:?}");
        let waited = told.took >= Duration::from_secs(2) && told.err.contains("stopping");
        ensure!(waited || args.contains(&"start"), "{args:?} was not waited for: {told:?}");
    }
    app.place(lab)?;
    let told = lab.ctl(&["rm", "--yes", "--timeout", "1s", "deaf"])?;
    ensure!(told.code == 1 && told.err.contains("after 1s there is still"), "{told:?}");
    until(PATIENCE, "no container is left", || Ok(running(lab) == 0))
}

fn any_agent(lab: &mut Lab) -> Result<()> {
    let app = App::new("asked", 2, None);
    let path = app.write(lab)?;
    for host in 1..=3 {
        lab.ctl_at(host, &["place", "--yes", &path])?.done()?;
        for args in [
            &["status"][..],
            &["nodes"],
            &["ps"],
            &["ps", "asked"],
            &["why", "asked/web/1"],
            &["events"],
            &["logs", "asked"],
            &["image", "ls"],
            &["version"],
        ] {
            let text = lab.ctl_at(host, args)?.done()?;
            ensure!(!text.out.is_empty(), "host {host} says nothing: {text:?}");
            let document = lab.ctl_at(host, &[args, &["--output", "json"]].concat())?.done()?;
            // Logs and events are a document a line.
            for line in document.out.lines().filter(|_| matches!(args, ["events" | "logs", ..])) {
                serde_json::from_str::<Value>(line).with_context(|| format!("{args:?}: {line}"))?;
            }
            if !matches!(args, ["events" | "logs", ..]) {
                document.json()?;
            }
        }
        lab.ctl_at(host, &["rm", "--yes", "asked"])?.done()?;
    }
    Ok(())
}

/// What nobody can run is not waited for until the timeout, and what ran before serves on.
fn hopeless(lab: &mut Lab) -> Result<()> {
    let soon = |told: &Answer| told.took < Duration::from_secs(40);
    let app = App::new("doomed", 2, Some(8088)).with("entrypoint: [/nonsense]");
    let path = app.write(lab)?;
    let told = lab.ctl(&["place", "--yes", &path])?;
    ensure!(told.code == 1 && soon(&told), "{told:?}");
    ensure!(told.err.contains("gave up") && told.err.contains("/nonsense"), "why: {told:?}");
    ensure!(told.err.contains("agentctl rm doomed"), "what to do: {told:?}");
    lab.ctl(&["rm", "--yes", "doomed"])?.done()?;

    let good = App::new("doomed", 2, Some(8088));
    good.place(lab)?;
    app.write(lab)?;
    let told = lab.ctl(&["place", "--yes", &path])?;
    ensure!(told.code == 1 && soon(&told), "{told:?}");
    ensure!(told.err.contains("gave up") && told.err.contains("to go back"), "{told:?}");
    ensure!(told.out.contains("2 of an earlier release serve"), "what serves: {told:?}");
    let shown = lab.ctl(&["ps", "doomed"])?.done()?;
    ensure!(shown.out.contains("0/2 (+2 old)"), "what serves: {shown:?}");
    serves_on(lab, &[1, 2, 3], 8088)?;
    good.place(lab)?;

    let app = App::new("doomed", 1, None)
        .deployed("placement: {constraints: [\"node.labels.disk == ssd\"]}\n");
    good.remove(lab)?;
    let told = lab.ctl(&["place", "--yes", &app.write(lab)?])?;
    ensure!(told.code == 1 && soon(&told), "{told:?}");
    ensure!(told.err.contains("no node can hold it: n1, n2, n3"), "why: {told:?}");
    lab.ctl(&["rm", "--yes", "doomed"])?.done()?;

    // Without a health check it is ready for a moment, again and again.
    let told = lab.ctl(&["place", "hello:1", "--name", "doomed", "--", "nonsense"])?;
    ensure!(told.code == 1 && soon(&told), "{told:?}");
    ensure!(told.err.contains("ended with exit code 2"), "why: {told:?}");
    lab.ctl(&["rm", "--yes", "doomed"])?.done()?;

    let told = lab.ctl(&["place", "helo:1", "--name", "doomed"])?;
    ensure!(
        told.code == 2 && told.err.contains("agentctl place hello:1 --name doomed"),
        "{told:?}"
    );
    Ok(())
}

fn dead_first(lab: &mut Lab) -> Result<()> {
    lab.ctl(&["nodes"])?.done()?;
    for number in [1, 2] {
        lab.host_mut(number)?.kill_agent()?;
    }
    let told = lab.ctl(&["status"])?.done()?;
    ensure!(told.took < Duration::from_secs(10), "it took {:?}", told.took);
    for number in [1, 2] {
        lab.host_mut(number)?.start(&["run"])?;
        lab.until_serving(number)?;
    }
    lab.until_alive(3)
}

/// Whoever knows all of the mesh but has no operator's key gets nothing.
fn stranger(lab: &mut Lab) -> Result<()> {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(lab.operator_config())?)?;
    let secret = config.pointer_mut("/contexts/0/operator/secret").context("no key")?;
    *secret = Value::from("5a".repeat(32));
    let other = lab.home().join("stranger.json");
    fs::write(&other, config.to_string())?;
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600))?;
    let other = other.to_string_lossy().into_owned();
    for args in [&["nodes"][..], &["events"], &["token", "create"], &["drain", "n1"]] {
        let args: Vec<&str> = ["--config", &other].iter().chain(args).copied().collect();
        let told = lab.ctl(&args)?;
        ensure!(told.code == 1 && told.out.is_empty(), "a stranger was answered: {told:?}");
    }
    lab.until_alive(3)
}

fn limits_of_nodes(lab: &mut Lab) -> Result<()> {
    // Each host has 1 GiB: one replica of 600 MiB fits on each, and a fourth nowhere.
    let heavy = App::new("heavy", 4, None).deployed("resources: {reservations: {memory: 600M}}\n");
    let path = heavy.write(lab)?;
    let placed = lab.ctl(&["place", "--yes", "--timeout", "15s", &path])?;
    ensure!(placed.code == 3, "one replica too many: {placed:?}");
    let said = format!("{}{}", placed.out, placed.err);
    ensure!(said.contains("no node can hold it"), "the reason is not told: {said}");
    lab.until_ready("heavy", 3)?;
    heavy.remove(lab)?;
    lab.ctl(&["node", "label", "n2", "disk=ssd"])?.done()?;
    let picky = App::new("picky", 3, None)
        .deployed("placement: {constraints: [\"node.labels.disk == ssd\"]}\n");
    picky.place(lab)?;
    let n = lab.host(2)?.containers_of("picky").len();
    ensure!(n == 3, "{n} of 3 replicas are on the node with the label");
    lab.ctl(&["node", "label", "n2", "disk-"])?.done()?;
    picky.remove(lab)
}

fn unhealthy(lab: &mut Lab) -> Result<()> {
    let mut app = App::new("sick", 1, None);
    app.health =
        "{test: [CMD, /hello, nonsense], interval: 300ms, timeout: 1s, retries: 2}".to_owned();
    let path = app.write(lab)?;
    let placed = lab.ctl(&["place", "--yes", "--timeout", "8s", &path])?;
    ensure!(placed.code == 1, "place: {placed:?}");
    let said = format!("{}{}", placed.out, placed.err).to_lowercase();
    ensure!(said.contains("health"), "the reason is not told: {said}");
    app.remove(lab)
}

fn greedy(lab: &mut Lab) -> Result<()> {
    let app = App::new("greedy", 1, Some(8083)).deployed("resources: {limits: {memory: 24M}}\n");
    app.place(lab)?;
    serves_on(lab, &[1], 8083)?;
    let (Ok(_) | Err(_)) = lab.http(1, 8083, "/eat?mb=64");
    until(PATIENCE, "the end is reported", || {
        let events = lab.ctl(&["events"])?.out.to_lowercase();
        Ok(events.contains("greedy/web/0") && events.contains("memory"))
    })?;
    until(PATIENCE, "it is ready again", || {
        let claims = lab.claims(None, "greedy")?;
        Ok(claims.iter().any(|claim| claim.serves() && claim.restarts > 0))
    })?;
    serves_on(lab, &[1, 2, 3], 8083)?;
    app.remove(lab)
}

/// Without its shim nobody would enforce a container's limits and lease.
fn shim(lab: &mut Lab) -> Result<()> {
    let app = App::new("guarded", 3, Some(8084));
    app.place(lab)?;
    let one = lab.host(1)?.containers_of("guarded");
    let one = one.first().context("host 1 has no replica")?.clone();
    let status = fs::read_to_string(format!("/proc/{}/status", one.pid))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent: i32 = parent.context("no parent")?.trim().parse()?;
    kill(Pid::from_raw(parent), Signal::SIGKILL)?;
    until(PATIENCE, "another container is in its place, and only one", || {
        let now = lab.host(1)?.containers_of("guarded");
        Ok(now.len() == 1 && now.iter().all(|other| other.pid != one.pid))
    })?;
    lab.until_ready("guarded", 3)?;
    serves_on(lab, &[1, 2, 3], 8084)?;
    app.remove(lab)
}

fn sweep(lab: &mut Lab) -> Result<()> {
    let app = App::new("swept", 3, Some(8085));
    app.place(lab)?;
    lab.host_mut(3)?.stop_agent()?;
    ensure!(!lab.host(3)?.containers_of("swept").is_empty(), "containers end with the agent");
    lab.host(3)?.agent(&["sweep"])?;
    nothing(lab.host(3)?.remains()?)?;
    lab.host_mut(3)?.start(&["run"])?;
    lab.until_serving(3)?;
    lab.until_alive(3)?;
    lab.until_ready("swept", 3)?;
    serves_on(lab, &[1, 2, 3], 8085)?;
    app.remove(lab)
}
