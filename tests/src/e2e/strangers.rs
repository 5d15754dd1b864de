//! Who does not belong to the mesh, or not yet: whole agents and people of another mesh, and servers that want to get in while the
//! network is split.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::apps::App;
use super::operators::{containers, refused};
use super::{Group, Story};
use crate::lab::{Lab, PATIENCE, Person, until};

pub(super) const GROUP: Group = Group {
    name: "who does not belong here",
    n_hosts: 3,
    stories: &[
        Story { name: "two meshes on one network keep out of each other", run: meshes },
        Story { name: "a join token admits one server, whatever a split hides", run: tokens },
    ],
};

/// What an agent says that it refused, for one reason.
fn n_refused(lab: &Lab, person: Person<'_>, host: usize, reason: &str) -> Result<u64> {
    let status = lab.ctl_as_at(person, host, &["status", "--output", "json"])?.done()?.json()?;
    let counts = status.get("refused").context("status has no field refused")?;
    Ok(counts.get(reason).and_then(Value::as_u64).unwrap_or(0))
}

/// The members that an agent knows: ids and names.
fn members(lab: &Lab, person: Person<'_>, host: usize) -> Result<BTreeSet<(String, String)>> {
    let told = lab.ctl_as_at(person, host, &["nodes", "--output", "json"])?.done()?.json()?;
    let nodes = told.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |node: &Value, name: &str| {
        node.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Ok(nodes.iter().map(|node| (text(node, "id"), text(node, "name"))).collect())
}

fn names(members: &BTreeSet<(String, String)>) -> Vec<&str> {
    let mut names: Vec<&str> = members.iter().map(|(_, name)| name.as_str()).collect();
    names.sort_unstable();
    names
}

/// A join that must fail; what the agent said.
fn turned_away(lab: &Lab, host: usize, args: &[&str]) -> Result<String> {
    let joined = lab.host(host)?.agent(&[&["join", "--no-run"], args].concat());
    let error = joined.err().context("it got in")?;
    Ok(format!("{error:#}"))
}

/// The first mesh has hosts 1 to 3, the second one 4 and 5, and its host 5 says that it is where host 1 is: so agents of the second
/// dial host 1 and gossip with it.
fn meshes(lab: &mut Lab) -> Result<()> {
    let app = App::new("ours", 3, None);
    app.place(lab)?;
    let before = containers(lab, "ours");
    let (own, other) = (Person::Founder, Person::Named("neighbour"));
    let home = lab.home().join("people/neighbour/.config/agentmesh");
    fs::create_dir_all(&home)?;
    let config = home.join("operator.json");
    let path = config.to_string_lossy().into_owned();
    for host in [4, 5, 6] {
        lab.add_host(host)?;
    }
    lab.host_mut(4)?.start(&["init", "--node-name", "n4", "--operator-config", &path])?;
    lab.until_serving(4)?;
    let token = lab.token_by(other, &["--uses", "2"])?;
    let settings = &mut lab.host_mut(5)?.settings;
    settings.insert("MESH_ADVERTISE".to_owned(), "10.77.0.1".to_owned());
    lab.join_with(5, &token)?;

    until(PATIENCE, "host 1 refuses what the other mesh's agents gossip", || {
        Ok(n_refused(lab, own, 1, "datagram")? > 0)
    })?;
    until(PATIENCE, "the other mesh's agent refuses host 1, which is not whom it dialled", || {
        Ok(n_refused(lab, other, 4, "stranger")? > 0)
    })?;
    for (host, reason) in [(1, "datagram"), (4, "stranger")] {
        let log = fs::read_to_string(lab.host(host)?.log())?;
        let told = log.lines().any(|line| line.contains("refused") && line.contains(reason));
        ensure!(told, "the log of host {host} does not tell of it");
    }

    // A server with the other mesh's token, at this one's door.
    let said = turned_away(lab, 6, &["10.77.0.1:7420", "--token", &token])?;
    ensure!(said.contains("the key is not accepted"), "it should say why: {said}");

    // The other mesh's admin: once as agentctl would do it, and once with all that is known of this mesh's agents.
    let asked = lab.ctl_as_at(other, 1, &["ps"])?;
    ensure!(asked.code != 0 && !asked.out.contains("ours"), "{asked:?}");
    let mut mixed: Value = serde_json::from_str(&fs::read_to_string(lab.operator_config())?)?;
    let theirs: Value = serde_json::from_str(&fs::read_to_string(&config)?)?;
    let secret = theirs.pointer("/contexts/0/operator/secret").context("no operator's key")?;
    *mixed.pointer_mut("/contexts/0/operator/secret").context("no key")? = secret.clone();
    let home = lab.home().join("people/intruder/.config/agentmesh");
    fs::create_dir_all(&home)?;
    fs::write(home.join("operator.json"), mixed.to_string())?;
    fs::set_permissions(home.join("operator.json"), fs::Permissions::from_mode(0o600))?;
    let strangers = n_refused(lab, own, 1, "stranger")?;
    for args in [&["ps"][..], &["token", "create"], &["rm", "--yes", "ours"]] {
        let answer = lab.ctl_as_at(Person::Named("intruder"), 1, args)?;
        refused(&answer, "the mesh does not know your key")?;
    }
    ensure!(n_refused(lab, own, 1, "stranger")? > strangers, "host 1 does not count strangers");

    for host in 1..=3 {
        let known = members(lab, own, host)?;
        ensure!(names(&known) == ["n1", "n2", "n3"], "host {host} lists {known:?}");
    }
    let known = members(lab, other, 4)?;
    ensure!(names(&known) == ["n4", "n5"], "host 4 lists {known:?}");
    ensure!(containers(lab, "ours") == before, "something was done to the app");
    for host in [4, 5] {
        lab.host(host)?.check_alive()?;
        lab.power_off(host)?;
    }
    lab.until_alive(3)?;
    app.remove(lab)
}

/// A token names the one agent that redeems it and counts its uses. So on the other side of a split nobody can use it, and whoever
/// comes second is refused, then and after the heal. A name is another matter: no agent knows the names of the other side.
fn tokens(lab: &mut Lab) -> Result<()> {
    for host in [7, 8] {
        lab.add_host(host)?;
    }
    let made = lab.ctl_at(1, &["token", "create", "--output", "json"])?.done()?.json()?;
    let once = made.get("token").and_then(Value::as_str).context("no token")?.to_owned();
    let far = lab.ctl_at(3, &["token", "create", "--output", "json"])?.done()?.json()?;
    let far = far.get("token").and_then(Value::as_str).context("no token")?.to_owned();
    lab.cut(&[1, 2, 7], &[3, 8])?;
    lab.until_alive_at(3, 1)?;
    lab.join_with(7, &once)?;
    // The same token on the other side: its agent is not there, and no other one will do.
    let said = turned_away(lab, 8, &["--token", &once])?;
    ensure!(said.contains("no agent answers"), "it should say why: {said}");
    let said = turned_away(lab, 8, &["10.77.0.3:7420", "--token", &once])?;
    ensure!(said.contains("the key is not accepted"), "it should say why: {said}");
    // A token of that side, and the name that was given away on the other one.
    let joining = ["join", "--token", &far, "--node-name", "n7"];
    lab.host_mut(8)?.start(&joining)?;
    lab.until_serving(8)?;
    lab.heal()?;
    lab.until_alive(5)?;
    let mut known = BTreeSet::new();
    until(PATIENCE, "all agents list the same members", || {
        known = members(lab, Person::Founder, 1)?;
        let agree = [2, 3, 7, 8].into_iter().map(|host| members(lab, Person::Founder, host));
        Ok(known.len() == 5 && agree.collect::<Result<Vec<_>>>()?.iter().all(|one| *one == known))
    })?;
    ensure!(names(&known) == ["n1", "n2", "n3", "n7", "n7"], "{known:?}");
    // Both are shown, every agent says what happened, and nobody takes the one for the other.
    for host in [1, 2, 3, 7, 8] {
        let told = lab.ctl_at(host, &["status"])?.done()?;
        ensure!(told.out.contains("2 nodes are called n7"), "host {host} says nothing: {told:?}");
    }
    let vague = lab.ctl(&["drain", "n7"])?;
    ensure!(vague.code == 2 && vague.err.contains("several"), "which n7? {vague:?}");
    // The token was used, whoever asks and wherever: a third server is told so, and it is counted.
    lab.add_host(9)?;
    let said = turned_away(lab, 9, &["--token", &once])?;
    ensure!(said.contains("was used 1 times, as often as it may be"), "it should say why: {said}");
    ensure!(n_refused(lab, Person::Founder, 1, "token-used-up")? == 1, "it is not counted");
    let second = lab.host(8)?.node().context("host 8 has no id")?;
    lab.ctl(&["node", "rm", "--yes", &second])?.done()?;
    lab.power_off(8)?;
    until(PATIENCE, "one of them is left", || {
        let told = lab.ctl(&["status"])?.done()?;
        Ok(!told.out.contains("nodes are called") && lab.n_alive()? == 4)
    })?;
    lab.ctl(&["node", "rm", "--yes", "n7"])?.done()?;
    lab.power_off(7)?;
    lab.until_alive(3)
}
