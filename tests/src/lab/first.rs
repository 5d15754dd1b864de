//! Clients that ask hosts for a page until one of them answers as it should.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::{Lab, http, net, pause, until};

/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(10);
/// How long a client waits for one answer. Whoever serves at all does so within a fraction of it.
const LIMIT: Duration = Duration::from_millis(100);
/// How many clients there are for each host; they begin one after the other, so that one of them asks soon.
const CLIENTS: u32 = 2;

#[derive(Debug, Default)]
struct Shared {
    first: Mutex<Option<Instant>>,
    is_over: AtomicBool,
}

/// Clients that wait for the first good answer.
#[derive(Debug)]
pub struct FirstAnswer {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<()>>>,
}

impl FirstAnswer {
    /// Starts to ask hosts of a lab; an answer in which `not` is found does not count.
    #[must_use]
    pub fn start(lab: &Lab, hosts: &[usize], port: u16, not: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let mut clients = Vec::new();
        for host in hosts {
            for number in 0..CLIENTS {
                let (shared, desk) = (Arc::clone(&shared), lab.net.desk());
                let (address, not) = (net::address(*host, port), not.to_owned());
                clients.push(std::thread::spawn(move || {
                    net::enter(&desk)?;
                    pause(LIMIT / CLIENTS * number);
                    while !shared.is_over.load(Ordering::Relaxed) {
                        let answer = http::get(address, "/", LIMIT);
                        if answer.is_ok_and(|page| page.status == 200 && !page.body.contains(&not))
                        {
                            shared.found(Instant::now());
                        }
                        pause(PACE);
                    }
                    Ok(())
                }));
            }
        }
        Self { shared, clients }
    }

    /// When the first good answer came.
    ///
    /// # Errors
    /// When none came within the limit.
    pub fn wait(mut self, limit: Duration) -> Result<Instant> {
        until(limit, "a client has an answer", || Ok(self.shared.is_over.load(Ordering::Relaxed)))?;
        for client in self.clients.drain(..) {
            client.join().map_err(|_panic| anyhow!("a client panicked"))??;
        }
        let first = *self.shared.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.ok_or_else(|| anyhow!("the clients stopped without an answer"))
    }
}

impl Drop for FirstAnswer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn found(&self, at: Instant) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        *first = Some(first.map_or(at, |earlier| earlier.min(at)));
        self.is_over.store(true, Ordering::Relaxed);
    }
}
