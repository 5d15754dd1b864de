//! People who give orders: what each role may do, and that nobody may any more who was removed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::apps::App;
use super::{Group, Story, note};
use crate::lab::{Answer, Container, Lab, PATIENCE, Person, until};

pub(super) const GROUP: Group = Group {
    name: "people who give orders",
    n_hosts: 3,
    stories: &[
        Story { name: "a viewer looks and does nothing, and sees no secret", run: viewer },
        Story { name: "a deployer places, and lets nobody in or out", run: deployer },
        Story { name: "an admin lets others in", run: admin },
        Story {
            name: "a removed operator is refused at once, and what it set up stays",
            run: removed,
        },
        Story {
            name: "a removed admin's join tokens end, and who joined by one stays",
            run: tokens,
        },
        Story {
            name: "what a removed operator places in a split is void when it heals",
            run: split,
        },
    ],
};

/// In the environment of an app, where only those who may change the app look.
const SECRET: &str = "correct-horse-battery";

/// That a command was refused for this reason, as a failure and not as bad usage.
pub(super) fn refused(answer: &Answer, reason: &str) -> Result<()> {
    ensure!(answer.code == 1 && answer.err.contains(reason), "not refused: {answer:?}");
    ensure!(answer.out.is_empty(), "something was told: {answer:?}");
    Ok(())
}

fn with_secret(name: &str) -> App {
    App::new(name, 2, None).with(&format!("environment:\n  PASSWORD: {SECRET}"))
}

pub(super) fn containers(lab: &Lab, app: &str) -> BTreeSet<Container> {
    lab.hosts().flat_map(|host| host.containers_of(app)).collect()
}

fn viewer(lab: &mut Lab) -> Result<()> {
    let app = with_secret("guarded");
    app.place(lab)?;
    lab.appoint(Person::Founder, "vera", "viewer")?;
    let vera = Person::Named("vera");
    let path = app.write(lab)?;
    let before = containers(lab, "guarded");
    for host in 1..=3 {
        for args in [
            &["status"][..],
            &["nodes"],
            &["ps", "guarded"],
            &["why", "guarded/web/1"],
            &["events"],
            &["logs", "guarded"],
            &["image", "ls"],
            &["operator", "ls", "--all"],
        ] {
            let document = [args, &["--output", "json"]].concat();
            for args in [args, &document] {
                let told = lab.ctl_as_at(vera, host, args)?.done()?;
                ensure!(!told.out.contains(SECRET), "a viewer sees the secret: {told:?}");
            }
        }
        for args in [
            &["place", "--yes", &path][..],
            &["place", "--dry-run", &path],
            &["scale", "guarded/web=1", "--yes"],
            &["restart", "guarded"],
            &["stop", "guarded"],
            &["rm", "guarded", "--yes"],
            &["exec", "guarded/web/0", "--", "/hello", "health"],
            &["drain", "n1"],
            &["node", "label", "n1", "a=b"],
        ] {
            refused(&lab.ctl_as_at(vera, host, args)?, "needs the role deployer")?;
        }
        let add = ["operator", "add", "vera", "--role", "admin"];
        refused(&lab.ctl_as_at(vera, host, &add)?, "needs the role admin")?;
    }
    ensure!(containers(lab, "guarded") == before, "something was done to the app");
    app.remove(lab)
}

fn deployer(lab: &mut Lab) -> Result<()> {
    lab.appoint(Person::Founder, "dan", "deployer")?;
    let dan = Person::Named("dan");
    let app = with_secret("deployed");
    let path = app.write(lab)?;
    lab.ctl_as(dan, &["place", "--yes", &path])?.done()?;
    lab.ctl_as(dan, &["exec", "deployed/web/0", "--", "/hello", "health"])?.done()?;
    lab.ctl_as(dan, &["scale", "deployed/web=3"])?.done()?;
    lab.until_ready("deployed", 3)?;
    let made = lab.ctl_as(Person::Named("eve"), &["login", "--name", "eve", "--output", "json"])?;
    let made = made.done()?.json()?;
    let key = made.get("key").and_then(|key| key.as_str()).context("no key")?;
    for host in 1..=3 {
        for args in [
            &["node", "rm", "--yes", "n3"][..],
            &["token", "create"],
            &["operator", "add", "eve", "--role", "viewer", "--key", key],
            &["operator", "add", "dan", "--role", "admin"],
            &["operator", "rm", "--yes", "admin"],
        ] {
            refused(&lab.ctl_as_at(dan, host, args)?, "needs the role admin")?;
        }
    }
    lab.until_alive(3)?;
    lab.ctl_as(dan, &["rm", "--yes", "deployed"])?.done().map(drop)
}

fn admin(lab: &mut Lab) -> Result<()> {
    lab.appoint(Person::Founder, "alma", "admin")?;
    let alma = Person::Named("alma");
    lab.appoint(alma, "noel", "viewer")?;
    let noel = Person::Named("noel");
    refused(&lab.ctl_as(noel, &["drain", "n1"])?, "needs the role deployer")?;
    lab.ctl_as(alma, &["operator", "add", "noel", "--role", "deployer"])?.done()?;
    for host in 1..=3 {
        until(PATIENCE, "every agent knows the new role", || {
            let shown =
                lab.ctl_as_at(noel, host, &["status", "--output", "json"])?.done()?.json()?;
            Ok(shown.get("role").is_some_and(|role| role == "deployer"))
        })?;
    }
    lab.ctl_as(noel, &["node", "label", "n1", "seen-by=noel"])?.done()?;
    // Who let somebody in goes, and whoever was let in stays.
    lab.ctl(&["operator", "rm", "--yes", "alma"])?.done()?;
    lab.ctl_as(noel, &["node", "label", "n1", "seen-by-"])?.done()?;
    refused(&lab.ctl_as(alma, &["nodes"])?, "was removed")?;
    lab.ctl(&["operator", "rm", "--yes", "noel"])?.done().map(drop)
}

fn removed(lab: &mut Lab) -> Result<()> {
    lab.appoint(Person::Founder, "rob", "deployer")?;
    let rob = Person::Named("rob");
    let app = App::new("legacy", 3, Some(8140));
    let path = app.write(lab)?;
    lab.ctl_as(rob, &["place", "--yes", &path])?.done()?;
    lab.ctl_as(rob, &["scale", "legacy/web=2", "--yes"])?.done()?;
    lab.until_ready("legacy", 2)?;
    let before = containers(lab, "legacy");
    let mut follower = lab.follow_as(rob, &["logs", "-f", "legacy"])?;
    until(PATIENCE, "the log is followed", || Ok(follower.printed().contains("listening")))?;

    lab.ctl(&["operator", "rm", "--yes", "rob"])?.done()?;
    for host in 1..=3 {
        until(Duration::from_secs(2), "every agent refuses the key", || {
            Ok(lab.ctl_as_at(rob, host, &["ps"])?.code != 0)
        })?;
        for args in [&["ps"][..], &["scale", "legacy/web=1", "--yes"], &["logs", "legacy"]] {
            refused(&lab.ctl_as_at(rob, host, args)?, "was removed from the mesh")?;
        }
    }
    until(PATIENCE, "the log is followed no more", || Ok(follower.ended()?.is_some()))?;
    ensure!(follower.ended()? == Some(1), "it ended with {:?}", follower.ended()?);
    ensure!(follower.printed().contains("was removed"), "it does not say why");
    lab.until_ready("legacy", 2)?;
    ensure!(containers(lab, "legacy") == before, "the removal restarted something");
    // With a new key rob may come back.
    lab.appoint(Person::Founder, "rob", "viewer")?;
    refused(&lab.ctl_as(rob, &["scale", "legacy/web=1", "--yes"])?, "needs the role deployer")?;
    // Whoever comes after can go on with what is there.
    lab.ctl(&["scale", "legacy/web=3"])?.done()?;
    lab.until_ready("legacy", 3)?;
    app.remove(lab)
}

fn tokens(lab: &mut Lab) -> Result<()> {
    lab.appoint(Person::Founder, "tess", "admin")?;
    let token = |uses: &str| lab.token_by(Person::Named("tess"), &["--uses", uses]);
    let (unused, twice) = (token("1")?, token("2")?);
    lab.add_host(4)?;
    lab.join_with(4, &twice)?;
    lab.until_alive(4)?;
    lab.ctl(&["operator", "rm", "--yes", "tess"])?.done()?;
    lab.add_host(5)?;
    for (token, name, reason) in
        [(&unused, "n5", "is not known here"), (&twice, "n6", "the token expired")]
    {
        let join = ["join", "--no-run", "--token", token, "--node-name", name];
        let joined = lab.host(5)?.agent(&join);
        let refused = joined.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains(reason), "a token that has ended: {refused:?}");
    }
    lab.until_alive(4)?;
    let nodes = lab.ctl(&["nodes"])?.done()?;
    ensure!(nodes.out.contains("n4") && !nodes.out.contains("n5"), "who is a member: {nodes:?}");
    lab.ctl(&["node", "rm", "--yes", "n4"])?.done()?;
    lab.power_off(4)?;
    lab.until_alive(3)
}

fn split(lab: &mut Lab) -> Result<()> {
    lab.appoint(Person::Founder, "mallory", "deployer")?;
    let mallory = Person::Named("mallory");
    lab.cut(&[1, 2], &[3])?;
    lab.until_alive_at(3, 1)?;
    lab.ctl_at(1, &["operator", "rm", "--yes", "mallory"])?.done()?;
    let path = App::new("late", 1, None).write(lab)?;
    // Nobody can have told host 3. It says that nobody else has stored it.
    let placed = lab.ctl_as_at(mallory, 3, &["place", "--yes", &path])?;
    ensure!(matches!(placed.code, 0 | 3), "the far side has not heard of it: {placed:?}");
    ensure!(!lab.host(3)?.containers_of("late").is_empty(), "nothing runs that could go");
    let healed = Instant::now();
    lab.heal()?;
    lab.until_alive(3)?;
    until(PATIENCE, "no agent takes orders from who was removed", || {
        let asked = (1..=3).map(|host| lab.ctl_as_at(mallory, host, &["ps"]));
        Ok(asked.collect::<Result<Vec<_>>>()?.iter().all(|told| told.code == 1))
    })?;
    let deaf = healed.elapsed().as_secs_f64();
    until(PATIENCE, "what came too late is gone everywhere", || {
        let mut known = false;
        for host in 1..=3 {
            known |= lab.ctl_at(host, &["ps", "--output", "json"])?.done()?.out.contains("late");
        }
        Ok(!known && containers(lab, "late").is_empty())
    })?;
    let gone = healed.elapsed().as_secs_f64();
    note(&format!(
        "refused everywhere {deaf:.1} s after the heal; what it placed was gone after {gone:.1} s"
    ));
    for host in 1..=3 {
        refused(&lab.ctl_as_at(mallory, host, &["ps"])?, "was removed from the mesh")?;
    }
    Ok(())
}
