//! Keys that are stolen, lost or turned against each other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::apps::App;
use super::operators::{containers, refused};
use super::{Group, Story};
use crate::lab::{Answer, Lab, PATIENCE, Person, pause, until};

pub(super) const GROUP: Group = Group {
    name: "keys in the wrong hands",
    n_hosts: 3,
    stories: &[
        Story { name: "with a copy of an agent's directory nobody gives orders", run: thief },
        Story { name: "a join token admits as many as it says, until it expires", run: tokens },
        Story { name: "of two admins who remove each other in a split one is left", run: rivals },
        Story { name: "the recovery key replaces the root's, once", run: recovery },
    ],
};

/// The node's key in the place of an operator's: all that a stolen disk has to offer.
fn thief(lab: &mut Lab) -> Result<()> {
    let app = App::new("treasure", 3, None);
    app.place(lab)?;
    let stolen = fs::read_to_string(lab.host(3)?.data().join("node.key"))?;
    let (_, seed) = stolen.split_once(':').context("the key is not where it was")?;
    let mut config: Value = serde_json::from_str(&fs::read_to_string(lab.operator_config())?)?;
    let secret = config.pointer_mut("/contexts/0/operator/secret").context("no operator's key")?;
    *secret = Value::from(seed.trim());
    let home = lab.home().join("people/thief/.config/agentmesh");
    fs::create_dir_all(&home)?;
    let file = home.join("operator.json");
    fs::write(&file, config.to_string())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let thief = Person::Named("thief");
    let path = App::new("planted", 1, None).write(lab)?;
    let before = containers(lab, "treasure");
    for host in 1..=3 {
        for args in [
            &["ps"][..],
            &["place", "--yes", &path],
            &["token", "create"],
            &["operator", "add", "thief", "--role", "admin"],
            &["exec", "treasure/web/0", "--", "/hello", "health"],
            &["logs", "treasure"],
            &["rm", "--yes", "treasure"],
        ] {
            refused(&lab.ctl_as_at(thief, host, args)?, "the mesh does not know your key")?;
        }
    }
    ensure!(containers(lab, "treasure") == before, "something was done to the app");
    lab.until_alive(3)?;
    app.remove(lab)
}

/// A join that must fail, on a host that never gets in.
fn turned_away(lab: &Lab, host: usize, token: &str, reason: &str) -> Result<()> {
    let joined = lab.host(host)?.agent(&["join", "--no-run", "--token", token]);
    let error = joined.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(error.contains(reason), "it should say {reason:?}: {error:?}");
    Ok(())
}

fn tokens(lab: &mut Lab) -> Result<()> {
    lab.add_host(4)?;
    lab.add_host(5)?;
    let once = lab.token()?;
    lab.join_with(4, &once)?;
    lab.until_alive(4)?;
    turned_away(lab, 5, &once, "was used 1 times, as often as it may be")?;
    let brief = lab.token_by(Person::Founder, &["--ttl", "1s"])?;
    pause(Duration::from_secs(2));
    turned_away(lab, 5, &brief, "the token expired")?;
    turned_away(lab, 5, &format!("{once}x"), "token")?;
    let nodes = lab.ctl(&["nodes"])?.done()?;
    ensure!(!nodes.out.contains("n5"), "it got in: {nodes:?}");
    lab.ctl(&["node", "rm", "--yes", "n4"])?.done()?;
    lab.power_off(4)?;
    lab.until_alive(3)
}

fn rivals(lab: &mut Lab) -> Result<()> {
    let (alma, otto) = (Person::Named("alma"), Person::Named("otto"));
    lab.appoint(Person::Founder, "alma", "admin")?;
    lab.appoint(Person::Founder, "otto", "admin")?;
    lab.cut(&[1, 2], &[3])?;
    lab.until_alive_at(3, 1)?;
    lab.ctl_as_at(alma, 1, &["operator", "rm", "--yes", "otto"])?.done()?;
    let far = lab.ctl_as_at(otto, 3, &["operator", "rm", "--yes", "alma"])?;
    ensure!(matches!(far.code, 0 | 3), "host 3 has not heard of it: {far:?}");
    lab.heal()?;
    lab.until_alive(3)?;
    let mut left = Vec::new();
    until(PATIENCE, "all agents agree on who is left", || {
        left.clear();
        for host in 1..=3 {
            let accepted = |person| -> Result<bool> {
                Ok(lab.ctl_as_at(person, host, &["status"])?.code == 0)
            };
            left.push([accepted(alma)?, accepted(otto)?]);
        }
        Ok(left.iter().all(|one| Some(one) == left.first()) && left.first() != Some(&[true, true]))
    })?;
    let [alma_is, otto_is] = left.first().copied().context("three hosts")?;
    ensure!(alma_is != otto_is, "one of two is left: {left:?}");
    let (name, winner, loser) = if alma_is { ("alma", alma, otto) } else { ("otto", otto, alma) };
    for host in 1..=3 {
        refused(&lab.ctl_as_at(loser, host, &["ps"])?, "was removed from the mesh")?;
    }
    lab.ctl_as(winner, &["node", "label", "n1", "held-by=winner"])?.done()?;
    lab.ctl(&["operator", "rm", "--yes", name])?.done().map(drop)
}

fn recovery(lab: &mut Lab) -> Result<()> {
    let app = App::new("inherited", 3, None);
    app.place(lab)?;
    let before = containers(lab, "inherited");
    let log = fs::read_to_string(lab.host(1)?.log())?;
    let shown = log.lines().skip_while(|line| !line.starts_with("The recovery key")).nth(2);
    let file = lab.home().join("recovery.txt");
    fs::write(&file, shown.context("init shows no recovery key")?.trim())?;
    let file = file.to_string_lossy().into_owned();
    // The old root is a thief's now; whoever has the recovery key sits at another machine.
    let config = lab.home().join("rescue.json").to_string_lossy().into_owned();
    fs::copy(lab.operator_config(), &config)?;
    let rescue = |args: &[&str]| -> Result<Answer> {
        lab.ctl(&[&["--config", &config, "--agent", "10.77.0.2:7420"], args].concat())
    };
    let planned = rescue(&["recover", "--key-file", &file, "--dry-run"])?.done()?;
    lab.ctl(&["ps"])?.done().context("a dry run changes nothing")?;
    rescue(&["recover", "--key-file", &file, "--yes"])?.done().with_context(|| planned.out)?;
    for host in 1..=3 {
        until(PATIENCE, "every agent refuses the old root", || {
            Ok(lab.ctl_at(host, &["ps"])?.code == 1)
        })?;
    }
    let spent = rescue(&["recover", "--key-file", &file, "--yes"])?;
    ensure!(spent.code == 1 && spent.err.contains("used already"), "used twice: {spent:?}");
    // The lab goes on with the new root.
    fs::copy(&config, lab.operator_config())?;
    lab.until_alive(3)?;
    lab.until_ready("inherited", 3)?;
    ensure!(containers(lab, "inherited") == before, "the recovery moved something");
    app.remove(lab)
}
