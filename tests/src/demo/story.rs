//! What the demonstration tells.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{NAME, screen};
use crate::lab::{Lab, Load, PATIENCE, Person, Tally, pause, until};

/// The app's published port.
const PORT: u16 = 8080;
/// How long a client waits for one host.
const CLIENT_LIMIT: Duration = Duration::from_millis(500);
/// How many clients ask at once.
const N_CLIENTS: usize = 4;
/// The host that loses power: the one on which the mesh was created.
const VICTIM: usize = 1;

/// Tells it all.
pub(super) fn tell(is_kept: bool) -> Result<()> {
    let begun = Instant::now();
    let mut lab = Lab::named(NAME, 3)?;
    make_mesh(&mut lab)?;
    place_app(&lab)?;
    let (failover, tally) = lose_power(&mut lab)?;
    come_back(&mut lab)?;
    screen::heading(5, "Look around");
    if is_kept {
        show_ways(&lab)?;
        lab.keep();
    } else {
        screen::shown(
            "deploy/demo --keep leaves all of this running, and says how to play with it.",
        );
        let left = lab.close()?;
        ensure!(left.is_empty(), "left behind: {}", left.join(", "));
        screen::shown("Everything that was started has been removed.");
    }
    screen::summary(&format!(
        "Failover in {:.2} s. {} requests sent, {} lost before a retry on another host, {} lost after it. ({:.0} s in all)",
        failover.as_secs_f64(),
        tally.sent,
        tally.lost_at_first,
        tally.lost,
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn make_mesh(lab: &mut Lab) -> Result<()> {
    screen::heading(1, "A mesh of three hosts, each a network namespace of this machine");
    let home = lab.home().to_string_lossy().into_owned();
    let host = lab.host_mut(1)?;
    // The operator sits at the desk, so that is where the key goes.
    host.settings.insert("HOME".to_owned(), home);
    screen::typed("n1", "agent init --node-name n1");
    host.start(&["init", "--node-name", "n1"])?;
    lab.until_serving(1)?;
    screen::typed("desk", "agentctl token create --uses 2");
    let token = lab.token_by(Person::Founder, &["--uses", "2"])?;
    for number in 2..=3 {
        let short: String = token.chars().take(12).collect();
        let name = format!("n{number}");
        screen::typed(
            &name,
            &format!("agent join 10.77.0.1:7420 --token {short}… --node-name {name}"),
        );
        let args = ["join", "10.77.0.1:7420", "--token", &token, "--node-name", &name];
        lab.host_mut(number)?.start(&args)?;
        lab.until_serving(number)?;
    }
    lab.until_alive(3)?;
    shows(lab, &["nodes"])
}

/// Types a command at the desk and shows what it prints.
fn shows(lab: &Lab, args: &[&str]) -> Result<()> {
    screen::typed("desk", &format!("agentctl {}", args.join(" ")));
    let answer = lab.ctl(args)?.done()?;
    screen::shown(&answer.out);
    Ok(())
}

fn place_app(lab: &Lab) -> Result<()> {
    screen::heading(2, "A web app with three replicas and a published port");
    let archive = lab.home().join("hello.tar");
    screen::typed("desk", "pack-image --name hello:1 --entrypoint /hello hello.tar hello");
    let packed = Command::new(lab.programs().path("pack-image"))
        .args(["--name", "hello:1", "--entrypoint", "/hello"])
        .arg(&archive)
        .arg(lab.programs().path("hello"))
        .output()
        .context("cannot run pack-image")?;
    ensure!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    screen::typed("desk", "agentctl image push hello.tar");
    lab.ctl(&["image", "push", &archive.to_string_lossy()])?.done()?;
    let placing = Instant::now();
    shows(lab, &["place", "deploy/examples/hello"])?;
    let seconds = placing.elapsed().as_secs_f64();
    screen::shown(&format!(
        "{seconds:.1} s until all replicas were ready. Every host answers on the port:"
    ));
    for number in 1..=3 {
        until(PATIENCE, "every host answers", || Ok(lab.http(number, PORT, "/")?.status == 200))?;
        screen::typed("desk", &format!("curl http://10.77.0.{number}:{PORT}/"));
        screen::shown(&lab.http(number, PORT, "/")?.body);
    }
    Ok(())
}

fn lose_power(lab: &mut Lab) -> Result<(Duration, Tally)> {
    screen::heading(3, "A host loses power while clients ask");
    shows(lab, &["ps", "hello"])?;
    screen::shown(&format!(
        "{N_CLIENTS} clients ask all three hosts in turn, and another host when one does not answer within {} ms.",
        CLIENT_LIMIT.as_millis()
    ));
    let load = Load::start(lab, &[1, 2, 3], PORT, N_CLIENTS, CLIENT_LIMIT);
    pause(Duration::from_secs(2));
    let n_lost: usize = lab.host(VICTIM)?.containers_of("hello").len();
    screen::shown(&format!(
        "Now n{VICTIM} loses power, the host where the mesh was created: its link goes silent, then everything on it is killed."
    ));
    let off = Instant::now();
    lab.power_off(VICTIM)?;
    let mut failover = off.elapsed();
    until(PATIENCE, "the replicas run elsewhere", || {
        let claims = lab.claims(Some(2), "hello")?;
        failover = off.elapsed();
        let serving =
            claims.iter().filter(|claim| claim.serves() && claim.node != format!("n{VICTIM}"));
        Ok(serving.count() == 3)
    })?;
    screen::shown(&format!(
        "{:.2} s later {n_lost} replica{} of n{VICTIM} ran{} on another host.",
        failover.as_secs_f64(),
        if n_lost == 1 { "" } else { "s" },
        if n_lost == 1 { "" } else { " again" },
    ));
    pause(Duration::from_secs(2));
    shows(lab, &["ps", "hello"])?;
    let (tally, reason) = load.stop()?;
    screen::shown(&format!(
        "{} requests: {} found the first host silent, {} failed on another host too.{}",
        tally.sent,
        tally.lost_at_first,
        tally.lost,
        if reason.is_empty() { String::new() } else { format!(" ({reason})") },
    ));
    Ok((failover, tally))
}

fn come_back(lab: &mut Lab) -> Result<()> {
    screen::heading(4, "The host comes back with its disk");
    screen::typed(&format!("n{VICTIM}"), "agent run");
    lab.power_on(VICTIM)?;
    lab.until_alive(3)?;
    // For a moment the replica runs there too, until its agent has heard that another host took it.
    lab.until_ready("hello", 3)?;
    shows(lab, &["nodes"])?;
    shows(lab, &["ps", "hello"])
}

/// Two small programs that do what the demonstration did, and what to type.
fn show_ways(lab: &Lab) -> Result<()> {
    let dir = lab.dir();
    let desk = format!("nsenter --net=/run/netns/{}-lan", lab.name());
    let ctl = dir.join("agentctl");
    let program = lab.programs().path("agentctl");
    write_program(
        &ctl,
        &format!(
            "#!/bin/sh\nexec {desk} env HOME={} {} \"$@\"\n",
            lab.home().display(),
            program.display()
        ),
    )?;
    let on = dir.join("on");
    let inside =
        format!("name={}-$1; shift; exec nsenter --net=/run/netns/$name \"$@\"", lab.name());
    write_program(&on, &format!("#!/bin/sh\n{inside}\n"))?;
    let ctl = ctl.display();
    for (command, why) in [
        (format!("{ctl} status"), "the mesh on one screen"),
        (format!("{ctl} why hello/web/0"), "why a replica is where it is"),
        (format!("{ctl} logs -f hello"), "what the replicas print"),
        (format!("{ctl} scale hello/web=6"), "more replicas"),
        (format!("{ctl} drain n2"), "empty a host for maintenance"),
        (format!("{desk} curl 10.77.0.3:{PORT}"), "ask a host, if curl is there"),
        (format!("{} 3 ip link set eth0 down", on.display()), "cut a host off; `up` to heal"),
        (format!("less {}/2/agent.log", dir.display()), "what an agent says"),
        ("deploy/demo --clean".to_owned(), "end and remove all of it"),
    ] {
        screen::shown(&format!("{command:<58} # {why}"));
    }
    Ok(())
}

fn write_program(path: &std::path::Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
