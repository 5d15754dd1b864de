//! What goes wrong, and when.

use super::World;
use super::clock::{SECOND, Time};
use super::host::Process;
use super::plan::Fault;
use super::queue::Event;
use mesh_coordinator::node::Input;

/// So many hosts are left alone: a mesh of which nothing is left shows nothing.
const STANDING_MIN: usize = 3;
/// So long after a store was replaced no other one is: the holders of its slots need that to find other witnesses.
const RENEWAL_PAUSE: Time = 100 * SECOND;

impl World {
    /// One stroke of fate, and when the next one comes.
    pub(crate) fn stroke(&mut self) {
        if self.now >= self.plan.heal {
            return;
        }
        let faults = self.plan.faults.clone();
        if let Some(fault) = self.rng.pick(&faults).copied() {
            self.coverage.fault(fault);
            self.strike(fault);
        }
        let usual = self.plan.stroke_pause;
        let pause = match self.rng.below(10) {
            0..=2 => self.rng.below(2 * SECOND),
            3..=8 => self.spread(usual),
            _ => 70 * SECOND,
        };
        self.queue.at(self.now + pause, Event::Stroke);
    }

    fn strike(&mut self, fault: Fault) {
        let Some(host) = self.victim() else { return };
        let wait = self.outage();
        self.tell(host, &(fault, wait / 1_000));
        self.note_stroke(fault, host);
        match fault {
            Fault::Crash => self.crash(host, wait),
            Fault::Restart => {
                self.hosts[host].announced = Some(self.now);
                self.input(host, Input::Restarting);
                let wait = self.rng.below(3 * SECOND);
                self.crash(host, wait);
            }
            Fault::Storm => {
                for _ in 0..4 {
                    let wait = self.rng.below(2 * SECOND);
                    self.crash(host, wait);
                }
                self.boot_after(host, 3 * SECOND);
            }
            Fault::PowerOff => {
                self.power_off(host);
                self.boot_after(host, SECOND + wait);
            }
            Fault::Wipe => {
                if self.n_standing() > STANDING_MIN + 1 && self.hosts.iter().all(|host| !host.lost)
                {
                    self.lose(host);
                }
            }
            Fault::Pause => self.pause(host, wait),
            Fault::Cut | Fault::OneWay | Fault::Split | Fault::Isolate => {
                self.cut_some(fault, host);
            }
            Fault::ClockStep => {
                self.hosts[host].clock.wall_off_ms += self.rng.below(7_200_000) as i64 - 3_600_000;
            }
            Fault::BadRuntime => {
                self.hosts[host].runtime_bad = true;
                self.ail(host);
            }
            Fault::FullDisk => {
                self.hosts[host].disk_full = true;
                self.ail(host);
            }
            Fault::ContainerCrash => self.container_crash(host),
            Fault::Sick => self.sicken(host),
            Fault::Blow => self.blow(wait),
            Fault::Suspend => self.suspend(host, wait),
            Fault::SlowDisk => {
                self.hosts[host].disk_slow = true;
                self.ail(host);
            }
            Fault::BadDisk => {
                self.hosts[host].disk_bad = true;
                self.ail(host);
            }
            Fault::NewStore => self.renew_store(host, wait),
        }
    }

    /// Remembers what befell whom: leases may end by it.
    fn note_stroke(&mut self, fault: Fault, host: usize) {
        let stroke = Some((fault, self.now));
        if fault.is_of_ways() {
            self.struck = stroke;
        } else {
            self.hosts[host].struck = stroke;
        }
        if self.hosts[host].registers.values().any(|it| it.accepted.is_some()) {
            self.coverage.struck_a_witness(fault);
        }
    }

    /// A lease of a host has ended: what befell it, or the ways to it, last is why.
    pub(crate) fn blame(&mut self, host: usize) {
        let strokes = [self.hosts[host].struck, self.struck];
        if let Some((fault, _)) = strokes.into_iter().flatten().max_by_key(|(_, at)| *at) {
            self.coverage.ended_a_lease(fault);
        }
    }

    /// A node comes back as another witness, which has promised nothing. Its containers go on.
    fn renew_store(&mut self, host: usize, wait: Time) {
        let pause = self.checks.renewed.map_or(Time::MAX, |at| self.now - at);
        // A slot that lost most of its witnesses is down for good, and shows nothing any more.
        if pause < RENEWAL_PAUSE {
            return;
        }
        self.checks.renewed = Some(self.now);
        self.crash(host, wait);
        self.lose_registers(host);
    }

    /// A host whose agent runs.
    fn victim(&mut self) -> Option<usize> {
        let awake: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].is_awake()).collect();
        self.rng.pick(&awake).copied()
    }

    fn n_standing(&self) -> usize {
        self.hosts.iter().filter(|host| host.is_awake()).count()
    }

    /// How long things stay bad: mostly a moment, sometimes longer than any patience.
    fn outage(&mut self) -> Time {
        match self.rng.below(4) {
            0 => self.rng.below(SECOND),
            1 | 2 => self.rng.below(8 * SECOND),
            _ => self.rng.below(60 * SECOND),
        }
    }

    fn crash(&mut self, host: usize, wait: Time) {
        self.kill_agent(host);
        self.boot_after(host, wait);
    }

    fn cut_some(&mut self, fault: Fault, host: usize) {
        let n_hosts = self.hosts.len();
        let until = self.now + SECOND / 2 + self.outage();
        let other = (host + 1 + self.rng.below(n_hosts as u64 - 1) as usize) % n_hosts;
        let side: Vec<bool> = (0..n_hosts).map(|_| self.rng.chance(500)).collect();
        let mut ways = Vec::new();
        for a in 0..n_hosts {
            for b in 0..n_hosts {
                let closed = match fault {
                    Fault::Cut => (a, b) == (host, other) || (b, a) == (host, other),
                    Fault::OneWay => (a, b) == (host, other),
                    Fault::Isolate => a != b && (a == host || b == host),
                    Fault::Crash
                    | Fault::Restart
                    | Fault::Storm
                    | Fault::PowerOff
                    | Fault::Wipe
                    | Fault::Pause
                    | Fault::Split
                    | Fault::ClockStep
                    | Fault::BadRuntime
                    | Fault::ContainerCrash
                    | Fault::Sick
                    | Fault::FullDisk
                    | Fault::Blow
                    | Fault::Suspend
                    | Fault::SlowDisk
                    | Fault::BadDisk
                    | Fault::NewStore => side[a] != side[b],
                };
                if closed {
                    ways.push((a, b));
                }
            }
        }
        self.disturb(0);
        self.cut(&ways, until);
    }

    fn ail(&mut self, host: usize) {
        let wait = 2 * SECOND + self.rng.below(18 * SECOND);
        self.queue.at(self.now + wait, Event::Recover { host });
        // A node that failed cools down, and another may need as long for its own first try.
        self.disturb(wait);
        self.checks.last_fault = self.checks.last_fault.max(self.now + wait);
    }

    fn container_crash(&mut self, host: usize) {
        let it = &self.hosts[host];
        let running = it.containers.iter().filter(|(_, it)| it.process == Process::Running);
        let running: Vec<_> = running.map(|(key, it)| (key.clone(), it.serial)).collect();
        if let Some((key, serial)) = self.rng.pick(&running).cloned() {
            self.disturb(0);
            self.ends(host, serial, &key, 1);
        }
    }

    fn sicken(&mut self, host: usize) {
        let until = self.now + self.rng.below(60 * SECOND);
        let keys: Vec<_> = self.hosts[host].containers.keys().cloned().collect();
        let now = self.now;
        if let Some(key) = self.rng.pick(&keys).cloned()
            && let Some(container) = self.hosts[host].containers.get_mut(&key)
        {
            container.sick_until = until;
            self.checks.excuse(&key.0, until);
            self.disturb(until - now);
        }
    }

    fn blow(&mut self, wait: Time) {
        let mut hosts: Vec<usize> = (0..self.hosts.len()).collect();
        self.rng.shuffle(&mut hosts);
        for host in hosts {
            if self.hosts[host].is_awake() && self.n_standing() > 2 && self.rng.chance(600) {
                self.power_off(host);
                let extra = self.rng.below(5 * SECOND);
                self.boot_after(host, SECOND + wait + extra);
            }
        }
    }

    /// What ails a host is over.
    pub(crate) fn recover(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        it.runtime_bad = false;
        (it.disk_full, it.disk_slow, it.disk_bad) = (false, false, false);
    }

    /// Everything is mended.
    pub(crate) fn heal(&mut self) {
        self.mend_all();
        for host in 0..self.hosts.len() {
            self.recover(host);
            for container in self.hosts[host].containers.values_mut() {
                container.sick_until = container.sick_until.min(self.now);
            }
            let life = self.hosts[host].life;
            self.resume(host, life);
            if self.hosts[host].agent.is_none()
                && !self.hosts[host].lost
                && self.hosts[host].life > 0
            {
                self.boot_after(host, SECOND);
            }
        }
        self.disturb(2 * SECOND);
    }
}
