//! What is attached, and the work of attaching, finding again, sweeping and closing.
//!
//! Everything here is idempotent, and what removes goes on after an error: whatever is left is removed by the next attempt.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mesh_ports::network::{AttachError, HostPort};
use mesh_telemetry::Chain;
use tracing::{info, warn};

use super::address::Addresses;
use super::finding::Finding;
use super::firewall::{self, Plan};
use super::foreign::{self, Passage};
use super::host_port::Held;
use super::record::{self, Record};
use super::step::StepError;
use super::{Config, link, namespace, sysctl};

/// A container to be attached.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) container: String,
    pub(super) namespace: PathBuf,
    pub(super) ports: Vec<HostPort>,
}

/// What the thread knows.
#[derive(Debug)]
pub(super) struct State {
    config: Config,
    bridge: u32,
    addresses: Addresses,
    attached: BTreeMap<String, Attached>,
    turned_on: bool,
}

#[derive(Debug)]
struct Attached {
    record: Record,
    held: Vec<Held>,
}

impl State {
    pub(super) async fn open(config: Config) -> Result<Self, StepError> {
        let mut addresses = Addresses::new(config.range);
        let gateway = addresses.gateway();
        let mut attached = BTreeMap::new();
        let bridge = link::session(async |handle| {
            link::ensure_bridge(handle, &config.name, gateway, config.range).await
        })
        .await?;
        let turned_on = sysctl::ensure("net/ipv4/ip_forward", "1")?;
        if turned_on {
            info!("forwarding was off on this host and was turned on");
        }
        for (port, record) in record::load(&config.state_dir)? {
            let found = link::session(async |handle| link::find(handle, &port).await).await?;
            if found.is_some() {
                addresses.take(record.address);
                let held = hold(&record);
                attached.insert(record.container.clone(), Attached { record, held });
            } else {
                // The host was started anew: only files are left.
                if let Some(namespace) = &record.namespace {
                    complain(&record.container, namespace::remove(namespace));
                }
                record::forget(&config.state_dir, &port)?;
            }
        }
        let mut state = Self { config, bridge, addresses, attached, turned_on };
        state.mend().await?;
        Ok(state)
    }

    pub(super) fn adopt(&mut self, container: String, address: Ipv4Addr) {
        if let Some(known) = self.attached.get(&container) {
            if known.record.address == address {
                return;
            }
            self.addresses.release(known.record.address);
        }
        self.addresses.take(address);
        let record = Record::new(container.clone(), address, None, &[]);
        self.attached.insert(container, Attached { record, held: Vec::new() });
    }

    pub(super) async fn attach(&mut self, wanted: Wanted) -> Result<Ipv4Addr, AttachError> {
        let failed = |source: StepError| AttachError::Interface {
            container: wanted.container.clone(),
            source: source.into(),
        };
        let known = self.attached.get(&wanted.container).map(|known| known.record.address);
        let Some(address) = known.or_else(|| self.addresses.allocate()) else {
            return Err(AttachError::Exhausted { range: self.config.range.to_string() });
        };
        let port = link::port_name(&self.config.name, &wanted.container);
        if known.is_some() {
            if self.is_connected(&wanted, &port).await.map_err(failed)? {
                self.keep(&wanted, &port, address).await.map_err(failed)?;
                return Ok(address);
            }
            self.detach(&wanted.container, Some(&wanted.namespace)).await;
            self.addresses.take(address);
        }
        match self.make(&wanted, &port, address).await {
            Ok(()) => Ok(address),
            Err(error) => {
                self.detach(&wanted.container, Some(&wanted.namespace)).await;
                self.addresses.release(address);
                Err(failed(error))
            }
        }
    }

    async fn is_connected(&self, wanted: &Wanted, port: &str) -> Result<bool, StepError> {
        let found = link::session(async |handle| link::find(handle, port).await).await?;
        // Without a carrier it was cut off, since it did not end when it had to: what is started now is connected anew.
        let on_bridge =
            found.is_some_and(|link| link.bridge == Some(self.bridge) && link.has_carrier);
        Ok(on_bridge && namespace::is_mounted(&wanted.namespace))
    }

    /// Leaves a connected container as it is but for its host ports, which may be others now.
    async fn keep(
        &mut self,
        wanted: &Wanted,
        port: &str,
        address: Ipv4Addr,
    ) -> Result<(), StepError> {
        let namespace = Some(wanted.namespace.clone());
        let record = Record::new(wanted.container.clone(), address, namespace, &wanted.ports);
        if let Some(known) = self.attached.get_mut(&wanted.container)
            && known.record != record
        {
            let is_new = |port: &&HostPort| !known.held.iter().any(|held| held.is_for(**port));
            let new = wanted.ports.iter().filter(is_new).map(|port| Held::take(*port));
            let new = new.collect::<Result<Vec<Held>, StepError>>()?;
            record::store(&self.config.state_dir, port, &record)?;
            known.held.retain(|held| wanted.ports.iter().any(|port| held.is_for(*port)));
            known.held.extend(new);
            known.record = record;
            if !wanted.ports.is_empty() {
                link::session(async |handle| link::reflect(handle, port).await).await?;
            }
            firewall::forget_flows(address, &wanted.ports).await;
        }
        self.write_rules().await
    }

    async fn make(
        &mut self,
        wanted: &Wanted,
        port: &str,
        address: Ipv4Addr,
    ) -> Result<(), StepError> {
        let held = wanted.ports.iter().map(|port| Held::take(*port));
        let held = held.collect::<Result<Vec<Held>, StepError>>()?;
        let container = wanted.container.clone();
        let namespace = Some(wanted.namespace.clone());
        let record = Record::new(container.clone(), address, namespace, &wanted.ports);
        record::store(&self.config.state_dir, port, &record)?;
        self.attached.insert(container, Attached { record, held });
        // What a crash left behind would be in the way.
        namespace::remove(&wanted.namespace)?;
        let inside = namespace::make(&wanted.namespace)?;
        let new = link::Port {
            container: &wanted.container,
            name: port,
            bridge: self.bridge,
            address,
            range: self.config.range,
            gateway: self.addresses.gateway(),
        };
        link::session(async |handle| {
            self.clear_the_way(handle, &new).await?;
            link::connect(handle, inside, &new).await?;
            if wanted.ports.is_empty() { Ok(()) } else { link::reflect(handle, port).await }
        })
        .await?;
        self.write_rules().await?;
        firewall::forget_flows(address, &wanted.ports).await;
        Ok(())
    }

    /// Removes an interface of the same name that was made for the same container; another's stays.
    async fn clear_the_way(
        &self,
        handle: &rtnetlink::Handle,
        port: &link::Port<'_>,
    ) -> Result<(), StepError> {
        let Some(found) = link::find(handle, port.name).await? else { return Ok(()) };
        let of_another = found.alias.is_some_and(|alias| alias != link::alias(port.container));
        if of_another {
            return Err(StepError::refused(
                format!("use the interface name {}", port.name),
                "another container has it",
            ));
        }
        link::remove(handle, port.name).await
    }

    /// Removes what a container has. Goes on after an error, so that as much as possible is gone.
    pub(super) async fn detach(&mut self, container: &str, namespace: Option<&Path>) {
        let port = link::port_name(&self.config.name, container);
        let known = self.attached.remove(container);
        let removed = link::session(async |handle| link::remove(handle, &port).await).await;
        complain(container, removed);
        if let Some(Attached { record, held }) = known {
            let ports = record.ports();
            if !ports.is_empty() {
                complain(container, self.write_rules().await);
                firewall::forget_flows(record.address, &ports).await;
            }
            drop(held);
            if let Some(namespace) = &record.namespace {
                complain(container, namespace::remove(namespace));
            }
            self.addresses.release(record.address);
        }
        if let Some(namespace) = namespace {
            complain(container, namespace::remove(namespace));
        }
        complain(container, record::forget(&self.config.state_dir, &port));
    }

    pub(super) async fn sweep(&mut self, alive: &[String]) {
        let is_dead = |container: &&String| !alive.contains(container);
        let dead: Vec<String> = self.attached.keys().filter(is_dead).cloned().collect();
        for container in dead {
            info!(%container, "swept what a container left");
            self.detach(&container, None).await;
        }
        let names: Vec<String> =
            alive.iter().map(|container| link::port_name(&self.config.name, container)).collect();
        let bridge = self.bridge;
        let swept = link::session(async |handle| {
            for port in link::ports(handle, bridge).await? {
                if !names.contains(&port.name) {
                    link::remove(handle, &port.name).await?;
                }
            }
            Ok(())
        });
        complain("of an earlier life", swept.await);
        complain("of an earlier life", self.write_rules().await);
    }

    pub(super) async fn close(&mut self) -> Result<(), StepError> {
        let containers: Vec<String> = self.attached.keys().cloned().collect();
        for container in containers {
            self.detach(&container, None).await;
        }
        self.sweep(&[]).await;
        let rules = firewall::open()?;
        foreign::remove(&rules, self.passage()).await?;
        firewall::remove(&rules, &self.config.name).await?;
        let name = self.config.name.clone();
        link::session(async |handle| link::remove(handle, &name).await).await?;
        match std::fs::remove_dir(&self.config.state_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let dir = self.config.state_dir.display();
                Err(StepError::refused(format!("remove {dir}"), error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) async fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.turned_on {
            findings.push(Finding::ForwardingTurnedOn);
        }
        for Attached { record, held } in self.attached.values() {
            for port in record.ports() {
                if !held.iter().any(|held| held.is_for(port)) {
                    findings.push(Finding::HostPort {
                        container: record.container.clone(),
                        port: format!("{}/{}", port.host, port.protocol),
                    });
                }
            }
        }
        let foreign = match firewall::open() {
            Ok(rules) => foreign::findings(&rules, &self.config.name).await,
            Err(error) => Err(error),
        };
        match foreign {
            Ok(foreign) => findings.extend(foreign),
            Err(error) => findings.push(Finding::Broken { reason: Chain(&error).to_string() }),
        }
        findings
    }

    /// Puts back what somebody else removed: the bridge, its address, its ports, and rules. Takes host ports that were in use.
    pub(super) async fn mend(&mut self) -> Result<(), StepError> {
        for Attached { record, held } in self.attached.values_mut() {
            let is_free = |port: &HostPort| !held.iter().any(|held| held.is_for(*port));
            let missing: Vec<HostPort> = record.ports().into_iter().filter(is_free).collect();
            held.extend(missing.into_iter().filter_map(|port| Held::take(port).ok()));
        }
        let config = &self.config;
        let gateway = self.addresses.gateway();
        let containers = self.attached.keys();
        let ports: Vec<String> =
            containers.map(|container| link::port_name(&config.name, container)).collect();
        let bridge = link::session(async |handle| {
            let bridge = link::ensure_bridge(handle, &config.name, gateway, config.range).await?;
            for port in &ports {
                link::reconnect(handle, port, bridge).await?;
            }
            Ok(bridge)
        });
        self.bridge = bridge.await?;
        self.write_rules().await
    }

    async fn write_rules(&self) -> Result<(), StepError> {
        let plan = Plan {
            bridge: self.config.name.clone(),
            range: self.config.range,
            ports: self.attached.values().flat_map(|attached| lead_to(&attached.record)).collect(),
        };
        let rules = firewall::open()?;
        firewall::ensure(&rules, &plan).await?;
        foreign::ensure(&rules, self.passage()).await
    }

    const fn passage(&self) -> Passage<'_> {
        Passage { bridge: self.config.name.as_str(), range: self.config.range }
    }
}

/// The ports of a container that was attached by an earlier life. One that cannot be held still leads to the container, since the
/// container runs; it is reported.
fn hold(record: &Record) -> Vec<Held> {
    let ports = record.ports();
    let held = ports.into_iter().map(Held::take);
    held.filter_map(|held| {
        held.inspect_err(|error| warn!(error = %Chain(error), "host port is in use")).ok()
    })
    .collect()
}

fn lead_to(record: &Record) -> Vec<(String, Ipv4Addr, HostPort)> {
    let ports = record.ports();
    ports.into_iter().map(|port| (record.container.clone(), record.address, port)).collect()
}

fn complain(container: &str, result: Result<(), StepError>) {
    if let Err(error) = result {
        warn!(container, error = %Chain(&error), "something of a container may be left");
    }
}
