//! Clients that never stop asking: all hosts in turn, and once more at another host when one fails them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::{Lab, http, net, pause};

/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(10);

/// What became of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub sent: u64,
    /// How many the first host failed.
    pub lost_at_first: u64,
    /// How many another host failed too.
    pub lost: u64,
    /// From the first to the last failure of a first host.
    pub trouble: Duration,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    lost_at_first: AtomicU64,
    lost: AtomicU64,
    /// When a first host first and last failed.
    trouble: Mutex<Option<(Instant, Instant)>>,
    /// What the last lost request died of.
    reason: Mutex<String>,
    is_over: AtomicBool,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    counters: Arc<Counters>,
    clients: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts `n` clients at the desk of a lab; each waits at most `limit` for one host.
    #[must_use]
    pub fn start(lab: &Lab, hosts: &[usize], port: u16, n: usize, limit: Duration) -> Self {
        let counters = Arc::new(Counters::default());
        let clients = (0..n).map(|first| {
            let (counters, desk, hosts) = (Arc::clone(&counters), lab.net.desk(), hosts.to_vec());
            std::thread::spawn(move || {
                net::enter(&desk)?;
                let mut turn = hosts.iter().cycle().skip(first);
                while !counters.is_over.load(Ordering::Relaxed) {
                    let (Some(host), Some(other)) = (turn.next(), turn.clone().next()) else {
                        break;
                    };
                    counters.ask(*host, *other, port, limit);
                    pause(PACE);
                }
                Ok(())
            })
        });
        let clients = clients.collect();
        Self { counters, clients }
    }

    /// What became of the requests until now.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let counters = &self.counters;
        let trouble = counters.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        Tally {
            sent: counters.sent.load(Ordering::Relaxed),
            lost_at_first: counters.lost_at_first.load(Ordering::Relaxed),
            lost: counters.lost.load(Ordering::Relaxed),
            trouble: trouble.map_or(Duration::ZERO, |(first, last)| last - first),
        }
    }

    /// What the last lost request died of.
    #[must_use]
    pub fn reason(&self) -> String {
        self.counters.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the clients.
    ///
    /// # Errors
    /// When a client could not work at all.
    pub fn stop(mut self) -> Result<(Tally, String)> {
        self.counters.is_over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().map_err(|_panic| anyhow!("a client panicked"))??;
        }
        Ok((self.tally(), self.reason()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.counters.is_over.store(true, Ordering::Relaxed);
    }
}

impl Counters {
    fn ask(&self, host: usize, other: usize, port: u16, limit: Duration) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if Self::fault(host, port, limit).is_none() {
            return;
        }
        self.lost_at_first.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let first = trouble.map_or(now, |(first, _)| first);
        *trouble = Some((first, now));
        drop(trouble);
        if let Some(fault) = Self::fault(other, port, limit) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            *self.reason.lock().unwrap_or_else(PoisonError::into_inner) =
                format!("host {host}, then host {other}: {fault}");
        }
    }

    fn fault(host: usize, port: u16, limit: Duration) -> Option<String> {
        match http::get(net::address(host, port), "/", limit) {
            Ok(page) if page.status == 200 => None,
            Ok(page) => Some(format!("{} {}", page.status, page.body)),
            Err(error) => Some(format!("{error:#}")),
        }
    }
}
