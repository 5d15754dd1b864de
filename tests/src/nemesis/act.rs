//! Faults as they are done to the hosts of a lab, and made good.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::check::Touches;
use super::plan::{Fault, Kind};
use crate::lab::clock::{Slew, raw};
use crate::lab::guards::signal_all;
use crate::lab::{Lab, PATIENCE, until};

/// Wall clocks are off by this, in seconds.
const OFF: i64 = 3_600;
/// An agent that is on its way out of a disk's fullness has this long until it is looked at.
const ENDING: Duration = Duration::from_secs(1);

/// A fault that happens.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) kind: Kind,
    /// The host that it happens to; 0 when it is all of them.
    pub(crate) host: usize,
    /// The other end of a link; the same host when it is no link.
    other: usize,
    /// The container that it is about.
    container: Option<String>,
    way: usize,
    slew: Option<Slew>,
    /// When it is made good.
    pub(crate) until: Duration,
    /// Its window.
    pub(crate) number: usize,
}

/// Where a fault happens.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) host: usize,
    pub(crate) other: usize,
    pub(crate) container: Option<String>,
    /// The host whose disk is small.
    pub(crate) tight: usize,
}

impl Act {
    /// What is to happen there; `None` when it cannot.
    pub(crate) fn new(fault: &Fault, place: Place) -> Result<Option<Self>> {
        let Place { mut host, other, container, tight } = place;
        let kind = fault.kind;
        // The disk that can be full is in memory, and would be gone.
        let is_impossible = (kind == Kind::PowerLost && host == tight)
            || (kind.needs_container() && container.is_none());
        if is_impossible {
            return Ok(None);
        }
        if kind == Kind::ClocksSlewed {
            host = 0;
        }
        if kind == Kind::DiskFull {
            host = tight;
        }
        let until = raw()? + fault.hold;
        let (way, slew, number) = (fault.way, None, 0);
        Ok(Some(Self { kind, host, other, container, way, slew, until, number }))
    }

    /// What it keeps from doing its part.
    pub(crate) const fn touches(&self) -> Touches {
        match self.kind {
            Kind::AgentAndGuardStopped
            | Kind::AgentAndShimKilled
            | Kind::AgentAndShimsStopped
            | Kind::AgentKilled
            | Kind::AgentReplaced
            | Kind::AgentStopped
            | Kind::ClockOff
            | Kind::DiskFull
            | Kind::Drained
            | Kind::FrozenAndAgentStopped
            | Kind::Isolated
            | Kind::PowerLost => Touches::Host(self.host),
            Kind::ClocksSlewed
            | Kind::GuardKilled
            | Kind::GuardStopped
            | Kind::ShimKilled
            | Kind::ShimStopped
            | Kind::ShimsAndGuardStopped => Touches::Nobody,
            // It is there, and says nothing.
            Kind::Frozen => Touches::All,
            Kind::LinkCut | Kind::LinkCutOneWay => Touches::Link(self.host, self.other),
        }
    }

    /// What it is and where.
    pub(crate) fn name(&self) -> String {
        let Self { kind, host, other, container, .. } = self;
        if *kind == Kind::ClocksSlewed {
            kind.to_string()
        } else if kind.is_of_link() {
            format!("{kind}: {host} and {other}")
        } else if let Some(container) = container.as_ref().filter(|_| kind.needs_container()) {
            format!("{kind}: {host}, {container}")
        } else {
            format!("{kind}: {host}")
        }
    }

    /// The pairs of hosts, from and to, between which nothing passes while it lasts; `hosts` are all.
    pub(crate) fn cuts(&self, hosts: &[usize]) -> Vec<(usize, usize)> {
        let (host, other) = (self.host, self.other);
        if self.kind == Kind::Isolated {
            let others = hosts.iter().filter(|other| **other != host);
            others.flat_map(|other| [(host, *other), (*other, host)]).collect()
        } else if self.kind == Kind::LinkCut {
            vec![(host, other), (other, host)]
        } else if self.kind == Kind::LinkCutOneWay {
            vec![if self.way.is_multiple_of(2) { (host, other) } else { (other, host) }]
        } else {
            Vec::new()
        }
    }

    fn container(&self) -> Result<&str> {
        self.container.as_deref().context("it is about no container")
    }

    /// Does it, but for cuts; whether there was anything to do it to.
    ///
    /// # Errors
    /// When the lab refuses.
    pub(crate) fn begin(&mut self, lab: &mut Lab) -> Result<bool> {
        let host = self.host;
        let mut hit = true;
        match self.kind {
            Kind::AgentAndGuardStopped => {
                lab.host(host)?.signal(Signal::SIGSTOP)?;
                hit = signal_all(lab.host(host)?.guard(), Signal::SIGSTOP);
            }
            Kind::AgentAndShimKilled => {
                lab.host_mut(host)?.kill_agent()?;
                hit = signal_all(lab.host(host)?.shim(self.container()?), Signal::SIGKILL);
            }
            Kind::AgentAndShimsStopped => {
                lab.host(host)?.signal(Signal::SIGSTOP)?;
                hit = signal_all(lab.host(host)?.shims(), Signal::SIGSTOP);
            }
            Kind::AgentKilled => lab.host_mut(host)?.kill_agent()?,
            Kind::AgentReplaced => lab.host(host)?.signal(Signal::SIGHUP)?,
            Kind::AgentStopped => lab.host(host)?.signal(Signal::SIGSTOP)?,
            Kind::ClockOff => {
                let off = if self.way.is_multiple_of(2) { OFF } else { -OFF };
                set_clock(lab, host, off)?;
            }
            Kind::ClocksSlewed => {
                self.slew = Some(Slew::begin(lab.dir(), self.way.is_multiple_of(2))?);
            }
            Kind::DiskFull => lab.host(host)?.fill_disk()?,
            Kind::Drained => {
                // Whom it is asked of may stand still itself.
                hit = lab.ctl_at(self.other, &["drain", &format!("n{host}")])?.code == 0;
            }
            Kind::Frozen => hit = freeze(lab, host, self.container()?, true),
            Kind::FrozenAndAgentStopped => {
                lab.host(host)?.signal(Signal::SIGSTOP)?;
                hit = freeze(lab, host, self.container()?, true);
            }
            Kind::GuardKilled => hit = signal_all(lab.host(host)?.guard(), Signal::SIGKILL),
            Kind::GuardStopped => hit = signal_all(lab.host(host)?.guard(), Signal::SIGSTOP),
            Kind::Isolated | Kind::LinkCut | Kind::LinkCutOneWay => {}
            Kind::PowerLost => lab.power_off(host)?,
            Kind::ShimKilled => {
                hit = signal_all(lab.host(host)?.shim(self.container()?), Signal::SIGKILL);
            }
            Kind::ShimStopped => {
                hit = signal_all(lab.host(host)?.shim(self.container()?), Signal::SIGSTOP);
            }
            Kind::ShimsAndGuardStopped => {
                let shims = signal_all(lab.host(host)?.shims(), Signal::SIGSTOP);
                hit = signal_all(lab.host(host)?.guard(), Signal::SIGSTOP) && shims;
            }
        }
        Ok(hit)
    }

    /// Makes it good, but for cuts.
    ///
    /// # Errors
    /// When the host does not come back.
    pub(crate) fn end(&mut self, lab: &mut Lab) -> Result<()> {
        let host = self.host;
        match self.kind {
            Kind::AgentAndGuardStopped | Kind::AgentAndShimsStopped | Kind::AgentStopped => {
                wake(lab, host)?;
                lab.host(host)?.signal(Signal::SIGCONT)?;
            }
            Kind::AgentAndShimKilled | Kind::AgentKilled => run(lab, host)?,
            Kind::AgentReplaced => lab.until_serving(host)?,
            Kind::ClockOff => set_clock(lab, host, 0)?,
            Kind::ClocksSlewed => self.slew = None,
            Kind::DiskFull => {
                lab.host(host)?.empty_disk()?;
                crate::lab::pause(ENDING);
                if lab.host(host)?.check_alive().is_err() {
                    // As a service manager would.
                    lab.host_mut(host)?.kill_agent()?;
                    run(lab, host)?;
                }
                lab.until_serving(host)?;
            }
            Kind::Drained => {
                let node = format!("n{host}");
                until(PATIENCE, "the drained node is back", || {
                    Ok(lab.ctl_at(self.other, &["undrain", &node])?.code == 0)
                })?;
            }
            Kind::Frozen => {
                freeze(lab, host, self.container()?, false);
            }
            Kind::FrozenAndAgentStopped => {
                freeze(lab, host, self.container()?, false);
                lab.host(host)?.signal(Signal::SIGCONT)?;
            }
            Kind::GuardStopped | Kind::ShimStopped | Kind::ShimsAndGuardStopped => {
                wake(lab, host)?;
            }
            Kind::GuardKilled
            | Kind::Isolated
            | Kind::LinkCut
            | Kind::LinkCutOneWay
            | Kind::ShimKilled => {}
            Kind::PowerLost => lab.power_on(host)?,
        }
        Ok(())
    }
}

/// Freezes it or thaws it; whether it was there.
fn freeze(lab: &Lab, host: usize, container: &str, is_frozen: bool) -> bool {
    lab.host(host).and_then(|host| host.freeze(container, is_frozen)).is_ok()
}

/// Shims and guard of a host go on.
fn wake(lab: &Lab, host: usize) -> Result<()> {
    signal_all(lab.host(host)?.shims(), Signal::SIGCONT);
    signal_all(lab.host(host)?.guard(), Signal::SIGCONT);
    Ok(())
}

pub(super) fn run(lab: &mut Lab, host: usize) -> Result<()> {
    lab.host_mut(host)?.start(&["run"])?;
    lab.until_serving(host)
}

/// The agent is killed, and back with a wall clock that is so many seconds off.
fn set_clock(lab: &mut Lab, host: usize, seconds: i64) -> Result<()> {
    let one = lab.host_mut(host)?;
    one.settings.insert("MESH_WALL_CLOCK_OFFSET".to_owned(), seconds.to_string());
    one.kill_agent()?;
    run(lab, host)
}
