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

/// Runs until nobody wants events any more. `recheck` bounds how late a change of the membership takes effect.
pub(crate) async fn run(
    mut diff: Diff,
    mut sources: watch::Receiver<Source>,
    events: mpsc::Sender<Event>,
    recheck: Duration,
) {
    loop {
        let mut source = sources.borrow_and_update().clone();
        loop {
            let may_fall = Instant::now() >= source.settles;
            let news = diff.step(&source.live.borrow_and_update(), may_fall);
            for event in news {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                biased;
                another = sources.changed() => match another {
                    Ok(()) => break,
                    Err(_) => return,
                },
                // A source that ended says nothing more; the keeper brings another.
                Ok(()) = source.live.changed() => {}
                () = tokio::time::sleep(recheck) => {}
            }
        }
    }
}
