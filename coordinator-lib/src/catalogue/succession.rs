//! How high a generation may be: nobody takes the last place in the order, so that every record can be followed by another.
//!
//! The order among records of a key is by generation first. A record of the highest generation there is could never be
//! followed, and its key would be locked. Only the best record of each author is kept, so a chain of parents cannot be checked
//! afterwards. Two bounds instead:
//!
//! * A ceiling, asked of every record by everybody. It depends on the record and on its author's role alone, so the order in
//!   which records arrive does not matter. Admins have a higher one: an admin can follow whatever a deployer wrote. What an
//!   admin or a member wrote at the very top goes with the author's removal.
//! * A step, asked only of what somebody hands in, by the agent that takes it: one above the record that it follows, or not far
//!   above what is known here if that record is not. At one step a record, no ceiling is ever reached; a record that skips does
//!   not get in without the help of a member.
//!
//! The same two bounds hold for the other numbers that one record takes from the last and raises: of releases, revisions and
//! restarts.

use super::authority::Refusal;
use super::record::{Body, Entry, Role, Stamp};
use super::set::Catalogue;

/// The ceiling for nodes and deployers: a thousand edits a second reach it in nine thousand years.
const GENERATION_MAX: u64 = 1 << 48;
/// The ceiling for admins.
const GENERATION_MAX_OF_ADMINS: u64 = GENERATION_MAX << 1;
/// The latest moment that a record may be stamped with, in milliseconds: the end of the year 9999. Of two records that are
/// equally late the hash decides, so a stamp beyond reason would make every later edit of its key a matter of luck.
const WRITTEN_MAX: u64 = 253_402_300_799_999;
/// The highest number of a release, of a revision and of requested restarts, for all authors: what comes after the highest would
/// look like it.
const NUMBER_MAX: u64 = 1 << 48;
/// How far a record may be ahead of what its entry agent knows, when that lacks its parent: many edits by other agents, during a
/// split even.
const STEP_MAX: u64 = 1 << 10;

/// Whether the generation of `entry` is below the ceiling of an author with this role; nodes have none.
pub(super) fn check_ceiling(entry: &Entry, role: Option<Role>) -> Result<(), Refusal> {
    let max = match role {
        Some(Role::Admin) => GENERATION_MAX_OF_ADMINS,
        Some(Role::Deployer | Role::Viewer) | None => GENERATION_MAX,
    };
    check_numbers(entry)?;
    check(entry, max)
}

/// Whether the other numbers of `entry` leave room for more.
fn check_numbers(entry: &Entry) -> Result<(), Refusal> {
    let Stamp { written, .. } = entry.record.stamp;
    if written.0 > WRITTEN_MAX {
        return Err(Refusal::Number { what: "moment", found: written.0, max: WRITTEN_MAX });
    }
    numbers(&entry.record.body).try_for_each(|(what, found)| {
        if found <= NUMBER_MAX {
            Ok(())
        } else {
            Err(Refusal::Number { what, found, max: NUMBER_MAX })
        }
    })
}

/// What is counted on from one record to the next: the number of the release and its highest revision, or the restarts.
fn numbers(body: &Body) -> impl Iterator<Item = (&'static str, u64)> {
    let (first, second) = match body {
        Body::App(release) => {
            let revisions = release.spec.services.values().map(|service| service.revision.number);
            (
                Some(("release number", release.version)),
                revisions.max().map(|max| ("revision number", max)),
            )
        }
        Body::Restart(restart) => (Some(("count of restarts", restart.count)), None),
        Body::Genesis(_)
        | Body::Recovery(_)
        | Body::Settings(_)
        | Body::Operator(_)
        | Body::OperatorRemoval(_)
        | Body::Invitation(_)
        | Body::Member(_)
        | Body::MemberRemoval { .. }
        | Body::Address(_)
        | Body::Labels(_)
        | Body::Drain(_)
        | Body::AppRemoval { .. }
        | Body::Scale(_)
        | Body::SlotReset(_)
        | Body::Run(_)
        | Body::Image { .. } => (None, None),
    };
    first.into_iter().chain(second)
}

fn check(entry: &Entry, max: u64) -> Result<(), Refusal> {
    let found = entry.record.stamp.generation;
    if found <= max { Ok(()) } else { Err(Refusal::Generation { found, max }) }
}

impl Catalogue {
    /// Whether the generation of `entry`, which somebody hands in here, follows what is known.
    ///
    /// # Errors
    /// When it is higher.
    pub fn check_step(&self, entry: &Entry) -> Result<(), Refusal> {
        let key = entry.record.body.key();
        let parent = entry.record.parent.and_then(|hash| self.by_hash(&hash));
        let max = match parent.filter(|parent| parent.record.body.key() == key) {
            Some(parent) => parent.record.stamp.generation.saturating_add(1),
            None => {
                let known = self.record(&key).map_or(0, |best| best.record.stamp.generation);
                known.saturating_add(STEP_MAX)
            }
        };
        check(entry, max)?;
        let known = self.record(&key).map(|best| numbers(&best.record.body).collect::<Vec<_>>());
        let known = known.unwrap_or_default();
        numbers(&entry.record.body).try_for_each(|(what, found)| {
            let before = known.iter().find(|(name, _)| *name == what).map_or(0, |(_, n)| *n);
            let max = before.saturating_add(STEP_MAX);
            if found <= max { Ok(()) } else { Err(Refusal::Number { what, found, max }) }
        })
    }
}

#[cfg(test)]
mod tests;
