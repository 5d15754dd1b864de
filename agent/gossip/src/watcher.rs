//! The task that tells the engine what changed.
//!
//! When the engine is slow the channel fills, the task waits, and what happens meanwhile becomes one difference: the latest
//! state wins and nothing is lost.

use std::time::Duration;

use mesh_ports::gossip::Event;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::chat::Live;
use crate::diff::Diff;

/// Where snapshots come from: one per life of this node.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) live: Live,
    /// From when on a node that is missing is dead, rather than not yet met by a new instance.
    pub(crate) settles: Instant,
}

/// Runs until the keeper is gone. `recheck` bounds how late a change of the membership takes effect.
pub(crate) async fn run(
    mut diff: Diff,
    mut sources: watch::Receiver<Source>,
    events: mpsc::Sender<Event>,
    recheck: Duration,
) {
    loop {
        let mut source = sources.borrow_and_update().clone();
        // A copy, because chitchat waits for those who look at the original, and checking signatures takes a while.
        let mut live = source.live.borrow_and_update().clone();
        loop {
            let may_fall = Instant::now() >= source.settles;
            for event in diff.step(&live, may_fall) {
                if events.send(event).await.is_err() {
                    // Without an engine there is nothing to tell; the daemon stops the group.
                    return std::future::pending().await;
                }
            }
            tokio::select! {
                biased;
                another = sources.changed() => match another {
                    Ok(()) => break,
                    Err(_) => return,
                },
                // A source that ended says nothing more; the keeper brings another.
                Ok(()) = source.live.changed() => live.clone_from(&source.live.borrow_and_update()),
                () = tokio::time::sleep(recheck) => {}
            }
        }
    }
}
