//! Counts the records of peers that the coordinator did not take.
//!
//! What somebody submits here is answered, and counted where it came in. A peer gets no answer. Of most refused records the
//! coordinator tells in an event; of those whose author nobody knows it says nothing, since the author's own record may be on its way.

use mesh_coordinator::catalogue::{Catalogue, Entry, Refusal};
use mesh_coordinator::event::Subject;
use mesh_coordinator::id::NodeId;
use mesh_coordinator::message::Message;
use mesh_coordinator::node::{Input, Output};
use mesh_telemetry::{Reason, Refusals};

/// How the event about a refused record begins.
const REFUSED: &str = "refused ";

/// Records that a peer sent and that were not known.
#[derive(Debug)]
pub(super) struct News {
    from: NodeId,
    records: Vec<Entry>,
}

impl News {
    /// The news in `input`, before it is handled; `None` when it brings none.
    pub(super) fn of(input: &Input, known: &Catalogue) -> Option<Self> {
        let Input::Said { from, message: Message::Records(entries) } = input else { return None };
        let is_new = |entry: &&Entry| known.by_hash(&entry.hash).is_none();
        let records: Vec<Entry> = entries.iter().filter(is_new).cloned().collect();
        (!records.is_empty()).then_some(Self { from: *from, records })
    }

    /// Counts those that were refused, now that the input was handled, with `out` as what came of it.
    pub(super) fn count(&self, known: &Catalogue, out: &[Output], refusals: &Refusals) {
        for output in out {
            if let Output::Event(event) = output
                && event.subject == Subject::Node(self.from)
                && let Some(words) = event.text.strip_prefix(REFUSED)
            {
                refusals.refuse(Reason::RecordRefused, self.from, words);
            }
        }
        for entry in &self.records {
            if known.by_hash(&entry.hash).is_none()
                && let Err(refusal @ Refusal::UnknownAuthor(_)) = known.judge(entry)
            {
                refusals.refuse(Reason::RecordUnknownAuthor, self.from, refusal);
            }
        }
    }
}
