//! Docker Swarm on hosts like ours: the peer of a mesh.
//!
//! Every host is a manager, since otherwise some hosts could not be lost at all. The switch and the cables are those of a lab.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::docker::{self, Docker, IMAGE};
use crate::lab::net::Net;
use crate::lab::{self, Container, Programs, until};

/// How long Swarm may take for what it does by itself; by default it misses a node after half a minute at the worst.
pub(super) const PATIENCE: Duration = Duration::from_mins(3);
/// One second, as the engine writes it.
const SECOND: u64 = 1_000_000_000;

/// How Swarm is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tuning {
    /// As it comes: heartbeats every 5 s, tasks restarted after 5 s.
    Default,
    /// As quick as its settings allow: heartbeats every second, tasks restarted at once.
    Quick,
}

/// A Swarm.
#[derive(Debug)]
pub(super) struct Swarm {
    name: String,
    net: Net,
    nodes: BTreeMap<usize, Docker>,
    tuning: Tuning,
    is_closed: bool,
}

impl Swarm {
    /// Makes a Swarm of `n` managers that have the image of `hello`.
    pub(super) fn new(n: usize, programs: &Programs, tuning: Tuning) -> Result<Self> {
        let name = lab::fresh_name();
        let (net, nodes) = (Net::new(&name), BTreeMap::new());
        let mut swarm = Self { name, net, nodes, tuning, is_closed: false };
        let dir = lab::dir_of(&swarm.name);
        std::fs::create_dir_all(&dir)?;
        let archive = docker::archive(&dir, &programs.path("hello"))?;
        swarm.net.make()?;
        for number in 1..=n {
            swarm.net.add(number)?;
            let mut node = Docker::new(&swarm.name, number)?;
            node.start(&swarm.net.namespace(number))?;
            node.import(&archive)?;
            swarm.nodes.insert(number, node);
        }
        swarm.join_all()?;
        if tuning == Tuning::Quick {
            swarm.quicken()?;
        }
        Ok(swarm)
    }

    fn join_all(&self) -> Result<()> {
        let mut token = Value::Null;
        for (number, node) in &self.nodes {
            let mut request = json!({
                "ListenAddr": "0.0.0.0:2377",
                "AdvertiseAddr": format!("10.77.0.{number}"),
            });
            if *number == 1 {
                // Not the range of the hosts' own addresses.
                let fields = request.as_object_mut().context("no object")?;
                fields.insert("DefaultAddrPool".into(), json!(["10.200.0.0/16"]));
                // Without it no task is ever given a network.
                fields.insert("SubnetSize".into(), json!(24));
                node.post("/swarm/init", &request)?;
                let swarm = node.get("/swarm")?;
                token = swarm.pointer("/JoinTokens/Manager").cloned().context("no token")?;
            } else {
                let fields = request.as_object_mut().context("no object")?;
                fields.insert("RemoteAddrs".into(), json!(["10.77.0.1:2377"]));
                fields.insert("JoinToken".into(), token.clone());
                node.post("/swarm/join", &request)?;
            }
        }
        self.until_ready(1)
    }

    fn quicken(&self) -> Result<()> {
        let node = self.node(1)?;
        let swarm = node.get("/swarm")?;
        let mut spec = swarm.get("Spec").cloned().context("no specification")?;
        let period = spec.pointer_mut("/Dispatcher/HeartbeatPeriod").context("no heartbeats")?;
        *period = json!(SECOND);
        node.post(&format!("/swarm/update?version={}", version(&swarm)?), &spec)?;
        // A node learns of it with its next heartbeat.
        lab::pause(Duration::from_secs(10));
        Ok(())
    }

    fn node(&self, number: usize) -> Result<&Docker> {
        self.nodes.get(&number).with_context(|| format!("there is no engine {number}"))
    }

    fn members(&self, via: usize) -> Result<Vec<Value>> {
        let nodes = self.node(via)?.get("/nodes")?;
        Ok(nodes.as_array().cloned().unwrap_or_default())
    }

    /// Waits until a node believes all nodes to be there, as managers and as workers.
    pub(super) fn until_ready(&self, via: usize) -> Result<()> {
        until(PATIENCE, "all engines are ready", || {
            let members = self.members(via)?;
            let is_ready = |one: &&Value| {
                let is = |pointer: &str, wanted: &str| {
                    one.pointer(pointer).and_then(Value::as_str) == Some(wanted)
                };
                is("/Status/State", "ready") && is("/ManagerStatus/Reachability", "reachable")
            };
            let n_ready = members.iter().filter(is_ready).count();
            ensure!(n_ready == self.nodes.len(), "{n_ready} of {}", self.nodes.len());
            Ok(true)
        })
    }

    /// The node that leads.
    pub(super) fn leader(&self, via: usize) -> Result<usize> {
        let members = self.members(via)?;
        let leads = |one: &&Value| {
            one.pointer("/ManagerStatus/Leader").and_then(Value::as_bool) == Some(true)
        };
        let leader = members.iter().find(leads).context("nobody leads")?;
        number(leader)
    }

    /// Lets only one node take new tasks, or all of them.
    fn admit(&self, via: usize, only: Option<usize>) -> Result<()> {
        for member in self.members(via)? {
            let is_open = only.is_none_or(|only| number(&member).is_ok_and(|one| one == only));
            let mut spec = member.get("Spec").cloned().context("no specification")?;
            let availability = if is_open { "active" } else { "pause" };
            let fields = spec.as_object_mut().context("no object")?;
            fields.insert("Availability".into(), json!(availability));
            let id = member.get("ID").and_then(Value::as_str).context("no id")?;
            let path = format!("/nodes/{id}/update?version={}", version(&member)?);
            self.node(via)?.post(&path, &spec)?;
        }
        Ok(())
    }

    /// Creates a service of one replica.
    pub(super) fn create(&self, via: usize, service: &str) -> Result<()> {
        let delay = if self.tuning == Tuning::Quick { 0 } else { 5 * SECOND };
        let request = json!({
            "Name": service,
            "TaskTemplate": {
                "ContainerSpec": { "Image": IMAGE },
                "RestartPolicy": { "Condition": "any", "Delay": delay },
            },
            "Mode": { "Replicated": { "Replicas": 1 } },
        });
        self.node(via)?.post("/services/create", &request).map(drop)
    }

    /// Creates a service of one replica whose first task is on a certain node; it may move anywhere afterwards.
    pub(super) fn create_on(&self, via: usize, service: &str, node: usize) -> Result<()> {
        self.admit(via, Some(node))?;
        self.create(via, service)?;
        until(PATIENCE, "the task runs", || Ok(!self.node(node)?.containers().is_empty()))?;
        self.admit(via, None)
    }

    /// Removes a service and waits until none of its containers is left.
    pub(super) fn remove(&self, via: usize, service: &str) -> Result<()> {
        // Right after its leader was lost it may not take it yet.
        until(PATIENCE, "the service is removed", || {
            let removed = self.node(via)?.delete(&format!("/services/{service}"));
            Ok(removed.err().is_none_or(|error| format!("{error:#}").contains(": 404: ")))
        })?;
        until(PATIENCE, "no task is left", || Ok(self.containers().is_empty()))
    }

    /// The containers that run.
    pub(super) fn containers(&self) -> Vec<Container> {
        self.nodes.values().flat_map(Docker::containers).collect()
    }

    /// The containers that run on other nodes than one.
    pub(super) fn containers_but_on(&self, node: usize) -> Vec<Container> {
        let others = self.nodes.iter().filter(|(number, _)| **number != node);
        others.flat_map(|(_, node)| node.containers()).collect()
    }

    /// A host loses power: the link first and in silence, then everything that ran.
    pub(super) fn power_off(&mut self, number: usize) -> Result<()> {
        self.net.set_link(number, false)?;
        self.kill(number)
    }

    /// Everything that runs on a host is killed.
    pub(super) fn kill(&mut self, number: usize) -> Result<()> {
        let node = self.nodes.get_mut(&number);
        node.with_context(|| format!("there is no engine {number}"))?.kill_all()
    }

    /// A host comes back with its disk and nothing else.
    pub(super) fn power_on(&mut self, number: usize) -> Result<()> {
        self.net.renew(number)?;
        let namespace = self.net.namespace(number);
        let node = self.nodes.get_mut(&number);
        node.with_context(|| format!("there is no engine {number}"))?.start(&namespace)
    }

    /// Removes everything, and says what is left of it in spite of that.
    pub(super) fn close(mut self) -> Result<Vec<String>> {
        self.end();
        lab::left_behind(&self.name)
    }

    fn end(&mut self) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        self.nodes.clear();
        lab::clean(&self.name);
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.end();
    }
}

fn version(object: &Value) -> Result<u64> {
    object.pointer("/Version/Index").and_then(Value::as_u64).context("no version")
}

/// Which host a member is.
fn number(member: &Value) -> Result<usize> {
    let name = member.pointer("/Description/Hostname").and_then(Value::as_str);
    let number = name.and_then(|name| name.strip_prefix('n')?.parse().ok());
    number.context("a member that is no host")
}
