//! What outlives the removal of an operator.
//!
//! A removal makes everything void that its key signed or ever will sign, but for a list. On the list is what holds now: the
//! mesh is to be the same as before but for that operator. Not on it are the invitations that nobody has used, which
//! would let their holder in later; those that somebody has used are needed to show that the member was let in, so the
//! remover writes them again, used up.

use mesh_coordinator::catalogue::{
    Body, Entry, Invitation, KeptRecord, OperatorRemoval, RecordKey, State,
};
use mesh_coordinator::id::PublicKey;
use mesh_coordinator::time::WallTime;

use crate::failure::Failure;
use crate::roll::Roll;

/// The most records that are listed: a record has 64 KiB, and each takes 34 bytes.
const KEPT_MAX: usize = 1_800;

/// What is written to remove an operator, and what there is to say about it.
#[derive(Debug)]
pub(in crate::command) struct Removal {
    /// The records.
    pub(in crate::command) bodies: Vec<Body>,
    /// Names of apps whose release stays.
    pub(in crate::command) apps: Vec<String>,
    /// Names of operators whose appointment stays.
    pub(in crate::command) operators: Vec<String>,
    /// How many other records stay.
    pub(in crate::command) n_others: usize,
    /// How many join tokens end.
    pub(in crate::command) n_tokens: usize,
    /// How many names of images are forgotten, the oldest first, because the list is full.
    pub(in crate::command) n_images: usize,
}

impl Removal {
    /// The removal of `key`.
    pub(in crate::command) fn of(
        key: PublicKey,
        roll: &Roll,
        now: WallTime,
    ) -> Result<Self, Failure> {
        let own = roll.catalogue().all().filter(|entry| entry.record.author == key);
        let mut removal = Self {
            bodies: Vec::new(),
            apps: Vec::new(),
            operators: Vec::new(),
            n_others: 0,
            n_tokens: 0,
            n_images: 0,
        };
        let (mut keep, mut images) = (Vec::new(), Vec::new());
        for entry in own {
            if let Body::Invitation(invitation) = &entry.record.body {
                removal.end(invitation, roll, now);
            } else if stays(entry, roll) {
                if matches!(entry.record.body, Body::Image { .. }) {
                    images.push(entry);
                } else {
                    keep.push(KeptRecord { hash: entry.hash });
                }
                removal.count(entry, roll.state());
            }
        }
        let room = KEPT_MAX.checked_sub(keep.len()).ok_or_else(|| {
            Failure::failed(format!(
                "{} records of this operator hold, and a removal can list {KEPT_MAX}",
                keep.len()
            ))
            .next("place and scale some of its apps again yourself, or remove those that are not needed")
        })?;
        images.sort_by_key(|entry| std::cmp::Reverse(entry.record.stamp.written));
        removal.n_images = images.len().saturating_sub(room);
        removal.n_others = removal.n_others.saturating_sub(removal.n_images);
        keep.extend(images.iter().take(room).map(|entry| KeptRecord { hash: entry.hash }));
        removal.bodies.push(Body::OperatorRemoval(OperatorRemoval { key, keep }));
        Ok(removal)
    }

    /// The list alone, for a record of another kind, and what has to be written beside it.
    pub(in crate::command) fn into_list(self) -> (Vec<KeptRecord>, Vec<Body>) {
        let (mut keep, mut others) = (Vec::new(), Vec::new());
        for body in self.bodies {
            if let Body::OperatorRemoval(removal) = body {
                keep = removal.keep;
            } else {
                others.push(body);
            }
        }
        (keep, others)
    }

    /// Ends an invitation: nobody joins by it any more, and whoever has stays.
    fn end(&mut self, invitation: &Invitation, roll: &Roll, now: WallTime) {
        let is_used = roll.catalogue().all().any(|entry| {
            matches!(&entry.record.body, Body::Member(member) if member.invitation == Some(invitation.key))
        });
        let holds = roll.state().invitations.get(&invitation.key) == Some(invitation);
        if holds && invitation.expires > now {
            self.n_tokens = self.n_tokens.saturating_add(1);
        }
        if is_used && holds {
            let ended = Invitation { expires: WallTime(0), ..invitation.clone() };
            self.bodies.push(Body::Invitation(ended));
        }
    }

    fn count(&mut self, entry: &Entry, state: &State) {
        if let Body::App(release) = &entry.record.body {
            self.apps.push(release.spec.name.to_string());
        } else if let Body::Operator(operator) = &entry.record.body
            && state.operators.contains_key(&operator.key)
        {
            self.operators.push(format!("{} ({})", operator.name, operator.role));
        } else {
            self.n_others = self.n_others.saturating_add(1);
        }
    }
}

/// Whether the mesh would be another without this record. What says who is who always stays: whom the operator removed must not
/// come back.
fn stays(entry: &Entry, roll: &Roll) -> bool {
    let key = entry.record.body.key();
    let holds = || roll.catalogue().record(&key).is_some_and(|best| best.hash == entry.hash);
    match &key {
        RecordKey::Genesis
        | RecordKey::Recovery
        | RecordKey::Operator(_)
        | RecordKey::OperatorRemoval(_)
        | RecordKey::Member(_)
        | RecordKey::MemberRemoval(_)
        | RecordKey::AppRemoval(_) => true,
        RecordKey::App(app)
        | RecordKey::Scale(app, _)
        | RecordKey::SlotReset(app, ..)
        | RecordKey::Restart(app, _)
        | RecordKey::Run(app) => {
            let state = roll.state();
            (state.apps.contains_key(app) || state.parked.contains_key(app)) && holds()
        }
        RecordKey::Settings
        | RecordKey::Invitation(_)
        | RecordKey::Address(_)
        | RecordKey::Labels(_)
        | RecordKey::Drain(_)
        | RecordKey::Image(_) => holds(),
    }
}
