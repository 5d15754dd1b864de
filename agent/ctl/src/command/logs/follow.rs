//! Following logs across restarts, moves and new replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_coordinator::time::WallTime;
use mesh_ports::runtime::{LogLine, LogQuery};
use tokio_stream::{StreamExt as _, StreamMap};

use super::{Args, Source, print, sources};
use crate::failure::{Failure, Outcome};
use crate::mesh::{Items, Mesh, Place};
use crate::ui::Ui;

/// How often replicas are looked for that are not followed: a new one shows its first line that late.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of a followed replica.
struct Followed {
    source: Source,
    /// The last line that was printed: a stream that is opened again goes on behind it.
    last: Option<WallTime>,
    /// How many lines of that moment were printed.
    n_last: usize,
    /// How many of them the stream that was opened again will repeat.
    n_repeated: usize,
}

/// Prints past and new lines until interrupted.
pub(super) async fn run<M: Mesh>(
    args: &Args,
    first: Vec<Source>,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let mut followed: BTreeMap<Place, Followed> = BTreeMap::new();
    let mut streams = StreamMap::new();
    let mut found = first;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.tick().await;
    loop {
        for source in found.drain(..) {
            if !streams.contains_key(&source.place) {
                let stream = open(args, source, mesh, &mut followed).await;
                streams.extend(stream);
            }
        }
        tokio::select! {
            Some((place, line)) = streams.next() => {
                // A stream that broke off is found missing at the next look.
                let Ok(line) = line else { drop(streams.remove(&place)); continue };
                let Some(known) = followed.get_mut(&place) else { continue };
                if known.is_new(line.written) {
                    print(&known.source, &line, ui)?;
                }
            }
            _ = ticks.tick() => {
                // While no agent answers, the open streams are all there is.
                let Ok(overview) = mesh.overview().await else { continue };
                found = sources(&overview, &args.target)?;
            }
        }
    }
}

async fn open<M: Mesh>(
    args: &Args,
    source: Source,
    mesh: &M,
    followed: &mut BTreeMap<Place, Followed>,
) -> Option<(Place, Items<LogLine>)> {
    let place = source.place.clone();
    let known = followed.entry(place.clone()).or_insert_with(|| Followed {
        source: source.clone(),
        last: None,
        n_last: 0,
        n_repeated: 0,
    });
    let query = match known.last {
        Some(last) => LogQuery { tail: None, since: Some(last), follow: true },
        None => LogQuery { follow: true, ..args.query() },
    };
    known.source = source;
    known.n_repeated = known.n_last;
    // A replica that cannot be reached now is tried again at the next look.
    mesh.logs(&place, query).await.ok().map(|stream| (place, stream))
}

impl Followed {
    /// Whether a line of this moment was not printed yet; remembers it.
    fn is_new(&mut self, written: WallTime) -> bool {
        if self.last == Some(written) {
            if self.n_repeated > 0 {
                self.n_repeated -= 1;
                return false;
            }
            self.n_last += 1;
        } else {
            self.last = Some(written);
            self.n_last = 1;
            self.n_repeated = 0;
        }
        true
    }
}
