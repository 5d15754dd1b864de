//! Wall clocks that are off, on a node or at the desk: people are told, and nothing else comes of it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::apps::{App, serves_on};
use super::{Group, Story};
use crate::lab::{Lab, PATIENCE, Person, until};

pub(super) const GROUP: Group = Group {
    name: "clocks that are off",
    n_hosts: 3,
    stories: &[
        Story { name: "a node whose clock is an hour ahead does all that others do", run: ahead },
        Story { name: "a node whose clock is an hour behind does all that others do", run: behind },
        Story { name: "an operator whose clock is a year off notices nothing of it", run: desk },
    ],
};

/// Two nodes, of which none can say who is right.
pub(super) const TWO: Group = Group {
    name: "two clocks that differ",
    n_hosts: 2,
    stories: &[Story { name: "of two nodes an hour apart neither refuses the other", run: apart }],
};

/// An hour, in seconds.
const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;
/// The host whose clock is off.
const OFF: usize = 2;

fn ahead(lab: &mut Lab) -> Result<()> {
    off(lab, HOUR, "the wall clock of n2 is 1 h ahead of the mesh's", [4, 5])
}

fn behind(lab: &mut Lab) -> Result<()> {
    off(lab, -HOUR, "the wall clock of n2 is 1 h behind the mesh's", [6, 7])
}

/// Restarts an agent, of a mesh of `n`, with a clock that is so many seconds off.
fn set_clock(lab: &mut Lab, n: u64, host: usize, seconds: i64) -> Result<()> {
    let one = lab.host_mut(host)?;
    one.settings.insert("MESH_WALL_CLOCK_OFFSET".to_owned(), seconds.to_string());
    one.stop_agent()?;
    one.start(&["run"])?;
    lab.until_serving(host)?;
    lab.until_alive_at(host, n)
}

/// What a host's agent finds wrong.
fn problems(lab: &Lab, host: usize) -> Result<Vec<String>> {
    let status = lab.ctl_at(host, &["status", "--output", "json"])?.done()?.json()?;
    let problems = status.get("problems").and_then(Value::as_array).context("no problems")?;
    Ok(problems.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// What each host's agent refused of operators and of those who join, since its start.
fn refusals(lab: &Lab) -> Result<Vec<u64>> {
    let reasons = ["request-expired", "request-replayed", "token-expired", "token-used-up"];
    (1..=3)
        .map(|host| {
            let status = lab.ctl_at(host, &["status", "--output", "json"])?.done()?.json()?;
            let refused = status.get("refused").cloned().unwrap_or_default();
            let counts = reasons.iter().filter_map(|it| refused.get(it).and_then(Value::as_u64));
            Ok(counts.sum())
        })
        .collect()
}

fn token_at(lab: &Lab, host: usize, more: &[&str]) -> Result<String> {
    let agent = format!("--agent=10.77.0.{host}:7420");
    lab.token_by(Person::Founder, &[&[agent.as_str()], more].concat())
}

/// A new host joins by a token, and leaves again.
fn comes_and_goes(lab: &mut Lab, host: usize, token: &str) -> Result<()> {
    let n = lab.n_alive()?;
    lab.join_with(host, token)?;
    lab.until_alive(n + 1)?;
    lab.ctl(&["node", "rm", "--yes", &format!("n{host}")])?.done()?;
    lab.power_off(host)?;
    lab.until_alive(n)
}

/// Commands in all replicas, and their logs, through every agent.
fn asked(lab: &Lab, app: &str, n: usize) -> Result<()> {
    for host in 1..=n {
        until(PATIENCE, &format!("host {host} knows of all replicas"), || {
            let claims = lab.claims(Some(host), app)?;
            Ok(claims.iter().filter(|claim| claim.serves()).count() == n)
        })?;
        for index in 0..n {
            let slot = format!("{app}/web/{index}");
            lab.ctl_at(host, &["exec", &slot, "--", "/hello", "health"])?.done()?;
        }
        let logs = lab.ctl_at(host, &["logs", "--since", "10m", app])?.done()?;
        for index in 0..n {
            let prefix = format!("web/{index} ");
            ensure!(logs.out.contains(&prefix), "nothing of {prefix}at host {host}: {logs:?}");
        }
    }
    Ok(())
}

fn off(lab: &mut Lab, seconds: i64, warning: &str, newcomers: [usize; 2]) -> Result<()> {
    set_clock(lab, 3, OFF, seconds)?;
    for host in 1..=3 {
        until(PATIENCE, &format!("host {host} knows whose clock is off, and of no other"), || {
            let found = problems(lab, host)?;
            Ok(found.len() == 1 && found.iter().all(|problem| problem.contains(warning)))
        })?;
    }
    let events = lab.ctl(&["events", "-n", "100"])?.done()?;
    let told = events.out.matches("its wall clock is 1 h").count();
    ensure!(told == 1, "it is told once for each time: {events:?}");

    let app = App::new("timeless", 3, Some(8088));
    let path = app.write(lab)?;
    lab.ctl_at(OFF, &["place", "--yes", &path])?.done()?;
    lab.until_ready("timeless", 3)?;
    asked(lab, "timeless", 3)?;
    for host in newcomers {
        lab.add_host(host)?;
    }
    let brief = token_at(lab, OFF, &["--ttl", "1s"])?;
    let own = token_at(lab, OFF, &[])?;
    comes_and_goes(lab, newcomers[0], &own)?;
    ensure!(refusals(lab)? == [0; 3], "somebody was refused: {:?}", refusals(lab)?);
    let late = lab.host(newcomers[1])?.agent(&["join", "--no-run", "--token", &brief]);
    let late = late.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(late.contains("the token expired"), "a second is over there as well: {late:?}");
    let others = token_at(lab, 1, &["--node", "n2", "--ttl", "1m"])?;
    comes_and_goes(lab, newcomers[1], &others)?;

    lab.power_off(OFF)?;
    lab.until_ready("timeless", 3)?;
    serves_on(lab, &[1, 3], 8088)?;
    lab.power_on(OFF)?;
    lab.until_alive(3)?;
    app.remove(lab)?;
    set_clock(lab, 3, OFF, 0)?;
    agree(lab)
}

/// Waits until no agent takes any clock for wrong.
fn agree(lab: &Lab) -> Result<()> {
    until(PATIENCE, "nobody warns of a clock that is right", || {
        let found = (1..=3).map(|host| problems(lab, host)).collect::<Result<Vec<_>>>()?;
        Ok(found.iter().all(|found| !found.iter().any(|it| it.contains("wall clock"))))
    })
}

/// The desk's clock is right, and all others are a year off: to the mesh, it is the desk's that is.
fn desk(lab: &mut Lab) -> Result<()> {
    let app = App::new("timeless", 3, None);
    app.place(lab)?;
    for (seconds, newcomer) in [(YEAR, 8), (-YEAR, 9)] {
        for host in 1..=3 {
            set_clock(lab, 3, host, seconds)?;
        }
        agree(lab)?;
        asked(lab, "timeless", 3)?;
        let token = lab.token_by(Person::Founder, &["--ttl", "1m"])?;
        lab.add_host(newcomer)?;
        comes_and_goes(lab, newcomer, &token)?;
        ensure!(refusals(lab)? == [0; 3], "somebody was refused: {:?}", refusals(lab)?);
    }
    for host in 1..=3 {
        set_clock(lab, 3, host, 0)?;
    }
    app.remove(lab)
}

fn apart(lab: &mut Lab) -> Result<()> {
    let app = App::new("timeless", 2, None);
    app.place(lab)?;
    for (seconds, newcomers) in [(HOUR, [4, 5]), (-HOUR, [6, 7])] {
        set_clock(lab, 2, OFF, seconds)?;
        for host in 1..=2 {
            until(PATIENCE, &format!("host {host} knows that nobody knows"), || {
                let doubts = "the nodes' wall clocks are 1 h apart, and no majority says which";
                Ok(problems(lab, host)?.iter().any(|problem| problem.contains(doubts)))
            })?;
            for index in 0..2 {
                let slot = format!("timeless/web/{index}");
                lab.ctl_at(host, &["exec", &slot, "--", "/hello", "health"])?.done()?;
            }
            lab.ctl_at(host, &["logs", "timeless"])?.done()?;
        }
        // Each is made by the clock of one node and redeemed by that of the other.
        for ((made, redeemed), newcomer) in [(1, "n2"), (2, "n1")].into_iter().zip(newcomers) {
            let token = token_at(lab, made, &["--node", redeemed, "--ttl", "5m"])?;
            lab.add_host(newcomer)?;
            comes_and_goes(lab, newcomer, &token)?;
        }
    }
    app.remove(lab)
}
