//! Following logs across restarts, moves and new replicas.
//!
//! Each container has a stream of its own: while one replaces another, the last lines of the old one and the first lines of the
//! new one overlap in time. A stream that broke off is opened again behind the last line that was printed.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_coordinator::id::Revision;
use mesh_coordinator::time::WallTime;
use mesh_ports::runtime::{LogLine, LogQuery};
use tokio_stream::{StreamExt as _, StreamMap};

use super::{Args, Source, print, sources};
use crate::failure::{Failure, Outcome};
use crate::mesh::{Items, Mesh, Place};
use crate::ui::Ui;

/// How often replicas are looked for that are not followed: a new one shows its first line that late.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many past lines a replica shows that appears while others are followed: its first lines, not its life.
const TAIL_OF_NEW: usize = 1_000;

/// Of so many containers it is remembered what was printed; of more only while their streams are open.
const CONTAINERS_MAX: usize = 10_000;

/// A container: its replica, and the definition that it was made from.
type Container = (Place, Revision);

/// Prints past and new lines until interrupted.
pub(super) async fn run<M: Mesh>(
    args: &Args,
    first: Vec<Source>,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let mut followed: BTreeMap<Container, Followed> = BTreeMap::new();
    let mut streams: StreamMap<Container, Items<LogLine>> = StreamMap::new();
    let mut found = first;
    let mut query = LogQuery { follow: true, ..args.query(mesh.now().await?) };
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.tick().await;
    loop {
        for source in found.drain(..) {
            let container = (source.place.clone(), source.revision);
            if streams.contains_key(&container) {
                continue;
            }
            let known = followed.entry(container.clone()).or_default();
            // A replica that cannot be reached now is tried again at the next look.
            if let Ok(stream) = mesh.logs(&source.place, known.query(query)).await {
                known.source = Some(source);
                streams.insert(container, stream);
            }
        }
        query = LogQuery { tail: Some(TAIL_OF_NEW), since: None, follow: true };
        tokio::select! {
            Some((container, line)) = streams.next() => {
                // A stream that broke off is found missing at the next look.
                let Ok(line) = line else { drop(streams.remove(&container)); continue };
                let Some(known) = followed.get_mut(&container) else { continue };
                if known.is_new(line.written) && let Some(source) = &known.source {
                    print(source, &line, ui)?;
                }
            }
            _ = ticks.tick() => {
                let overview = match mesh.overview().await {
                    Ok(overview) => overview,
                    Err(error) if error.is_about_me() => return Err(error.into()),
                    // While no agent answers, the open streams are all there is.
                    Err(_silent) => continue,
                };
                found = sources(&overview, &args.target)?;
                if followed.len() > CONTAINERS_MAX {
                    followed.retain(|container, _| streams.contains_key(container));
                }
            }
        }
    }
}

/// What is known of a followed container.
#[derive(Debug, Default)]
struct Followed {
    /// Whose it is; `None` before it was reached.
    source: Option<Source>,
    /// When the last line was written that was printed.
    last: Option<WallTime>,
    /// How many lines of that moment were printed.
    n_last: usize,
    /// How many of them the stream that was opened again will repeat.
    n_repeated: usize,
}

impl Followed {
    /// What to ask for: `first`, or what comes behind the last line.
    fn query(&mut self, first: LogQuery) -> LogQuery {
        self.n_repeated = self.n_last;
        match self.last {
            Some(last) => LogQuery { tail: None, since: Some(last), follow: true },
            None => first,
        }
    }

    /// Whether a line of this moment was not printed yet; remembers it.
    fn is_new(&mut self, written: WallTime) -> bool {
        if self.last != Some(written) {
            (self.last, self.n_last, self.n_repeated) = (Some(written), 1, 0);
            return true;
        }
        if self.n_repeated > 0 {
            self.n_repeated -= 1;
            return false;
        }
        self.n_last += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    //! No line is printed twice, and none is lost.

    use mesh_coordinator::time::WallTime;
    use mesh_ports::runtime::LogQuery;

    use super::Followed;

    #[test]
    fn a_stream_that_is_opened_again_repeats_nothing() {
        let first = LogQuery { tail: Some(5), since: None, follow: true };
        let mut followed = Followed::default();
        assert_eq!(followed.query(first), first);
        let printed = |followed: &mut Followed, times: &[u64]| {
            times.iter().filter(|at| followed.is_new(WallTime(**at))).count()
        };
        assert_eq!(printed(&mut followed, &[1, 2, 2]), 3);
        assert_eq!(followed.query(first).since, Some(WallTime(2)));
        assert_eq!(printed(&mut followed, &[2, 2, 2, 3]), 2);
        assert_eq!(followed.query(first).since, Some(WallTime(3)));
        assert_eq!(printed(&mut followed, &[4]), 1);
    }
}
