//! Hosts on one machine: each is a network namespace with an agent of its own, and real containers.
//!
//! ```text
//!   NAME-1 eth0 10.77.0.1 ──┐
//!   NAME-2 eth0 10.77.0.2 ──┤ lan (bridge) 10.77.0.254: namespace NAME-lan
//!   NAME-3 eth0 10.77.0.3 ──┘ the desk: where agentctl and the clients of the apps run
//! ```
//!
//! Nothing is made in the machine's own network namespace, so that labs may run side by side and addresses need not differ.
//! A host loses power as hosts do: its link goes first and in silence, then every process of it, so that no goodbye is ever sent.
//! Links are cut by rules on the bridge, which is the switch of the lab.
//!
//! What a lab makes is found again by its name alone ([`clean`]), whoever made it and however that ended.

mod alone;
mod clean;
pub(crate) mod clock;
mod ctl;
mod disk;
mod first;
pub(crate) mod guards;
mod host;
pub(crate) mod http;
mod load;
mod need;
pub(crate) mod net;
pub(crate) mod process;
mod server;
pub(crate) mod service;
pub(crate) mod shell;
mod wait;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

pub use self::alone::{Alone, Seen};
pub(crate) use self::clean::dir_of;
pub use self::clean::{clean, left_behind, of_dead_makers};
pub use self::ctl::{Answer, Claim, Follower, Person};
pub use self::disk::Disk;
pub use self::first::FirstAnswer;
pub use self::host::Host;
pub use self::http::Page;
pub use self::load::{Load, Tally};
pub use self::need::missing;
pub use self::process::Container;
pub use self::server::{Server, Shown, Window};
pub use self::wait::{Deadline, pause, until};

/// How long a lab waits for what a mesh does by itself within seconds, on a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// The programs that a lab runs.
#[derive(Debug, Clone)]
pub struct Programs(PathBuf);

impl Programs {
    /// From `MESH_BIN_DIR`, or where this program is itself.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn find() -> Result<Self> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
        let dir = std::env::var_os("MESH_BIN_DIR").map(PathBuf::from).or_else(beside);
        let dir = dir.context("this program's own place is not known: set MESH_BIN_DIR")?;
        for program in ["agent", "agentctl", "hello", "pack-image"] {
            let path = dir.join(program);
            ensure!(
                path.is_file(),
                "{} is missing: cargo build --release --locked --bins",
                path.display()
            );
        }
        Ok(Self(dir))
    }

    /// The path of a program.
    #[must_use]
    pub fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

/// How many names this process has made.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// A name that no other lab of this process has, and by which [`of_dead_makers`] finds it.
#[must_use]
pub fn fresh_name() -> String {
    let number = MADE.fetch_add(1, Ordering::SeqCst);
    format!("mt{}x{number}", std::process::id())
}

/// All names that [`fresh_name`] has made.
pub fn names_made() -> impl Iterator<Item = String> {
    (0..MADE.load(Ordering::SeqCst)).map(|number| format!("mt{}x{number}", std::process::id()))
}

/// Hosts joined by a switch, and a desk to work from.
#[derive(Debug)]
pub struct Lab {
    name: String,
    dir: PathBuf,
    programs: Programs,
    net: net::Net,
    hosts: BTreeMap<usize, Host>,
    is_kept: bool,
}

impl Lab {
    /// Makes `n` hosts on which nothing runs yet.
    ///
    /// # Errors
    /// When the machine refuses; what was made until then is removed.
    pub fn new(n: usize) -> Result<Self> {
        Self::named(&fresh_name(), n)
    }

    /// The same with a name of one's own.
    ///
    /// # Errors
    /// When the machine refuses; what was made until then is removed.
    pub fn named(name: &str, n: usize) -> Result<Self> {
        let dir = dir_of(name);
        let mut lab = Self {
            name: name.to_owned(),
            programs: Programs::find()?,
            net: net::Net::new(name),
            hosts: BTreeMap::new(),
            is_kept: false,
            dir,
        };
        std::fs::create_dir_all(lab.dir.join("desk")).context("cannot make the lab's directory")?;
        lab.net.make()?;
        for number in 1..=n {
            lab.add_host(number)?;
        }
        Ok(lab)
    }

    /// A lab with a mesh on all of its hosts.
    ///
    /// # Errors
    /// When a host does not come up.
    pub fn with_mesh(n: usize) -> Result<Self> {
        let mut lab = Self::new(n)?;
        lab.init(1)?;
        for number in 2..=n {
            lab.join(number)?;
            lab.until_alive(number)?;
        }
        Ok(lab)
    }

    /// Adds a host to the switch.
    ///
    /// # Errors
    /// When the machine refuses.
    pub fn add_host(&mut self, number: usize) -> Result<()> {
        self.net.add(number)?;
        let host = Host::new(&self.dir, number, &self.net.namespace(number), &self.programs)?;
        self.hosts.insert(number, host);
        Ok(())
    }

    /// A host.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn host(&self, number: usize) -> Result<&Host> {
        self.hosts.get(&number).with_context(|| format!("the lab has no host {number}"))
    }

    /// A host, to do something with it.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn host_mut(&mut self, number: usize) -> Result<&mut Host> {
        self.hosts.get_mut(&number).with_context(|| format!("the lab has no host {number}"))
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// The lab's name, which begins the name of all of its namespaces.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the lab keeps its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The programs that it runs.
    #[must_use]
    pub const fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Creates a mesh on a host, whose agent then serves.
    ///
    /// # Errors
    /// When the agent does not come to serve.
    pub fn init(&mut self, number: usize) -> Result<()> {
        let config = self.operator_config();
        let host = self.host_mut(number)?;
        let (name, config) = (host.name(), config.to_string_lossy().into_owned());
        host.start(&["init", "--node-name", &name, "--operator-config", &config])?;
        self.until_serving(number)
    }

    /// Lets a host join with a token of its own, redeemed by the first host that lives.
    ///
    /// # Errors
    /// When there is no token, or the agent does not start.
    pub fn join(&mut self, number: usize) -> Result<()> {
        let token = self.token()?;
        self.join_with(number, &token)
    }

    /// A token for one host.
    ///
    /// # Errors
    /// When agentctl fails.
    pub fn token(&self) -> Result<String> {
        self.token_by(Person::Founder, &[])
    }

    /// A token that a person creates, with more arguments.
    ///
    /// # Errors
    /// When agentctl fails.
    pub fn token_by(&self, person: Person<'_>, more: &[&str]) -> Result<String> {
        let args = [&["token", "create", "--output", "json"], more].concat();
        let made = self.ctl_as(person, &args)?.done()?.json()?;
        Ok(made.get("token").and_then(|token| token.as_str()).context("no token")?.to_owned())
    }

    /// Lets a host join with a token.
    ///
    /// # Errors
    /// When the agent does not come to serve.
    pub fn join_with(&mut self, number: usize, token: &str) -> Result<()> {
        self.join_as(number, token, &[])
    }

    /// Lets a host join with a token and more arguments.
    ///
    /// # Errors
    /// When the agent does not come to serve.
    pub fn join_as(&mut self, number: usize, token: &str, more: &[&str]) -> Result<()> {
        let host = self.host_mut(number)?;
        let name = host.name();
        host.start(&[&["join", "--token", token, "--node-name", &name], more].concat())?;
        self.until_serving(number)
    }

    /// Waits until an agent answers on its port.
    ///
    /// # Errors
    /// When it does not.
    pub fn until_serving(&self, number: usize) -> Result<()> {
        until(PATIENCE, &format!("the agent of host {number} serves"), || {
            self.host(number)?.check_alive()?;
            Ok(self.net.can_connect(number, 7420))
        })
        .with_context(|| self.host(number).map_or_else(|_| String::new(), Host::log_end))
    }

    /// Waits until the agent that agentctl asks knows of `n` living nodes.
    ///
    /// # Errors
    /// When it does not.
    pub fn until_alive(&self, n: usize) -> Result<()> {
        until(PATIENCE, &format!("{n} nodes are alive"), || Ok(self.n_alive()? == n))
    }

    /// How many nodes the mesh believes alive.
    ///
    /// # Errors
    /// When nobody can be asked.
    pub fn n_alive(&self) -> Result<usize> {
        let nodes = self.ctl(&["nodes", "--output", "json"])?.done()?.json()?;
        let nodes = nodes.get("nodes").and_then(|nodes| nodes.as_array()).cloned();
        // A node that has not said what it has yet cannot be given anything.
        let is_alive = |node: &serde_json::Value| {
            node.get("status").is_some_and(|status| status == "alive")
                && node.get("capacity").is_some_and(|capacity| !capacity.is_null())
        };
        Ok(nodes.unwrap_or_default().iter().filter(|node| is_alive(node)).count())
    }

    /// Waits until the agent of a host knows of `n` living nodes, itself included.
    ///
    /// # Errors
    /// When it does not.
    pub fn until_alive_at(&self, host: usize, n: u64) -> Result<()> {
        until(PATIENCE, &format!("host {host} knows of {n} living nodes"), || {
            let status = self.ctl_at(host, &["status", "--output", "json"])?.done()?.json()?;
            Ok(status.get("nodes_alive").and_then(serde_json::Value::as_u64) == Some(n))
        })
    }

    /// A host loses power: the link first and in silence, then everything that ran.
    ///
    /// # Errors
    /// When something of it does not die.
    pub fn power_off(&mut self, number: usize) -> Result<()> {
        self.net.set_link(number, false)?;
        self.host_mut(number)?.kill_all()
    }

    /// A host comes back with its disk and nothing else.
    ///
    /// # Errors
    /// When it does not come to serve.
    pub fn power_on(&mut self, number: usize) -> Result<()> {
        let host = self.host_mut(number)?;
        host.kill_all()?;
        host.forget_boot()?;
        self.net.renew(number)?;
        self.host_mut(number)?.start(&["run"])?;
        self.until_serving(number)
    }

    /// A host with nothing on it is connected again; its agent is not started.
    ///
    /// # Errors
    /// When the machine refuses.
    pub fn plug_in(&mut self, number: usize) -> Result<()> {
        self.net.renew(number)
    }

    /// Nothing that `from` sends reaches `to` any more; the other way stays open.
    ///
    /// # Errors
    /// When the switch refuses.
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<()> {
        self.net.cut(from, to)
    }

    /// Nothing passes between the two sides, in silence.
    ///
    /// # Errors
    /// When the switch refuses.
    pub fn cut(&self, one: &[usize], other: &[usize]) -> Result<()> {
        for a in one {
            for b in other {
                self.net.cut(*a, *b)?;
                self.net.cut(*b, *a)?;
            }
        }
        Ok(())
    }

    /// All cuts are mended.
    ///
    /// # Errors
    /// When the switch refuses.
    pub fn heal(&self) -> Result<()> {
        self.net.heal()
    }

    /// Asks a host's port from the desk.
    ///
    /// # Errors
    /// When there is no answer, or not one of HTTP.
    pub fn http(&self, number: usize, port: u16, path: &str) -> Result<Page> {
        let address = net::address(number, port);
        self.net.at_desk(move || http::get(address, path, http::LIMIT))?
    }

    /// The operator's home directory, at the desk.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.dir.join("desk")
    }

    /// Where agentctl finds the operator's key: its usual place.
    #[must_use]
    pub fn operator_config(&self) -> PathBuf {
        self.home().join(".config/agentmesh/operator.json")
    }

    /// Leaves everything as it is when the lab is dropped.
    pub const fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Removes everything, and says what is left of it in spite of that.
    ///
    /// # Errors
    /// When the machine cannot be looked at.
    pub fn close(mut self) -> Result<Vec<String>> {
        let nodes = clean::nodes_of(&self.dir);
        self.remove();
        let mut left = left_behind(&self.name)?;
        let groups = nodes.iter().flat_map(|node| clean::groups(node));
        left.extend(groups.map(|group| format!("control group {}", group.display())));
        Ok(left)
    }

    fn remove(&mut self) {
        if self.is_kept {
            return;
        }
        self.is_kept = true;
        for host in self.hosts.values_mut() {
            host.end();
        }
        clean(&self.name);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.remove();
    }
}
