//! Looks all the time, at the kernel's tables, whether an app runs twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Lab, pause, process};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What was seen of an app.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How often somebody looked.
    pub looks: u64,
    /// The longest time in which nothing of it ran.
    pub gap: Duration,
    /// The fencing tokens of its containers, in the order of their starts.
    pub tokens: Vec<u64>,
    /// What should not have been.
    wrong: Option<String>,
}

/// Somebody who looks.
#[derive(Debug)]
pub struct Alone {
    stop: Arc<AtomicBool>,
    looks: JoinHandle<Seen>,
}

impl Alone {
    /// Begins to look at the app on all hosts of the lab that have an agent.
    #[must_use]
    pub fn watch(lab: &Lab, app: &str) -> Self {
        let nodes: Vec<String> = lab.hosts().filter_map(super::Host::node).collect();
        let (stop, prefix) = (Arc::new(AtomicBool::new(false)), format!("{app}-"));
        let told = Arc::clone(&stop);
        let looks = std::thread::spawn(move || {
            let mut seen = Seen::default();
            let (mut last, mut since) = (None, Instant::now());
            while !told.load(Ordering::Relaxed) {
                let found: Vec<process::Container> = nodes
                    .iter()
                    .flat_map(|node| process::containers(node))
                    .filter(|one| one.id.starts_with(&prefix))
                    .collect();
                seen.look(&found, &mut last);
                if found.is_empty() {
                    seen.gap = seen.gap.max(since.elapsed());
                } else {
                    since = Instant::now();
                }
                pause(PAUSE);
            }
            seen
        });
        Self { stop, looks }
    }

    /// Looks no more.
    ///
    /// # Errors
    /// When two containers ran at one moment, or a token did not rise.
    pub fn seen(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.looks.join().ok().context("whoever looked has panicked")?;
        ensure!(seen.wrong.is_none(), "{}: {seen:?}", seen.wrong.as_deref().unwrap_or_default());
        Ok(seen)
    }
}

impl Seen {
    fn look(&mut self, found: &[process::Container], last: &mut Option<i32>) {
        self.looks = self.looks.saturating_add(1);
        if found.len() > 1 {
            self.wrong.get_or_insert_with(|| format!("two run at one moment: {found:?}"));
        }
        let Some(one) = found.first().filter(|one| Some(one.pid) != *last) else { return };
        let environment = process::read(one.pid, "environ");
        let token = environment.split('\0').find_map(|it| it.strip_prefix("MESH_FENCING_TOKEN="));
        // Until its program is run, the first process has the environment of the shim.
        let Some(token) = token.and_then(|token| token.parse().ok()) else { return };
        *last = Some(one.pid);
        let before = self.tokens.last().copied();
        if before.is_some_and(|before| before > token) {
            self.wrong.get_or_insert_with(|| format!("token {token} after {before:?}"));
        }
        self.tokens.push(token);
    }
}
