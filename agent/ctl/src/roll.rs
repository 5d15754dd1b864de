//! Who may do what, worked out here from the records themselves.
//!
//! No agent's word is taken for it: the mesh's identity is the hash of its first record, which names the first operator, and all
//! others follow from signatures. What a change of it would bring about is worked out in the same way, before it is handed in.

use std::collections::BTreeMap;

use mesh_coordinator::catalogue::{
    Body, Catalogue, Entry, Operator, Record, RecordKey, Refusal, Role, SignedBytes, State,
};
use mesh_coordinator::id::{PublicKey, Signature};
use mesh_coordinator::name::OperatorName;
use mesh_coordinator::time::WallTime;

use crate::failure::Failure;
use crate::mesh::{CallError, Mesh, NEEDS_ROLE};

/// An operator, or somebody who was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    /// The key.
    pub(crate) key: PublicKey,
    /// The name.
    pub(crate) name: OperatorName,
    /// The role; the last one if it was removed.
    pub(crate) role: Role,
    /// Who made it an operator; `None` for the first one, whom the mesh began with.
    pub(crate) appointed_by: Option<PublicKey>,
    /// When, by that operator's clock.
    pub(crate) since: WallTime,
    /// Whether it was removed.
    pub(crate) removed: bool,
}

/// The names that the mesh has for images, with their digests. Agents know images by digest alone.
pub(crate) async fn image_names<M: Mesh>(mesh: &M) -> Result<BTreeMap<String, String>, CallError> {
    Ok(Roll::read(mesh).await?.state().images.clone())
}

/// The records of a mesh, and who asks.
pub(crate) struct Roll {
    me: PublicKey,
    catalogue: Catalogue,
}

impl Roll {
    /// Reads all records that the operator may read.
    pub(crate) async fn read<M: Mesh>(mesh: &M) -> Result<Self, CallError> {
        let mut catalogue = Catalogue::new(mesh.mesh());
        catalogue.extend(mesh.catalogue().await?);
        if catalogue.state().genesis.is_none() {
            let reason = "its records do not begin with the first one of this mesh".to_owned();
            return Err(CallError::BrokenOff { reason });
        }
        Ok(Self { me: mesh.operator(), catalogue })
    }

    /// The records.
    pub(crate) const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// What holds.
    pub(crate) const fn state(&self) -> &State {
        self.catalogue.state()
    }

    /// Who asks.
    pub(crate) const fn me(&self) -> PublicKey {
        self.me
    }

    /// The operators, the mightiest first, then by name.
    pub(crate) fn seats(&self) -> Vec<Seat> {
        let held = self.state().operators.values().map(|operator| self.seat(operator, false));
        let mut seats: Vec<Seat> = held.collect();
        seats.sort_by(|a, b| b.role.cmp(&a.role).then_with(|| a.name.cmp(&b.name)));
        seats
    }

    /// Those who were operators, by name.
    pub(crate) fn removed(&self) -> Vec<Seat> {
        let gone = self.state().removed_operators.iter().filter_map(|key| self.last_seat(key));
        let mut seats: Vec<Seat> = gone.collect();
        seats.sort_by(|a, b| a.name.cmp(&b.name));
        seats
    }

    fn last_seat(&self, key: &PublicKey) -> Option<Seat> {
        let entry = self.catalogue.record(&RecordKey::Operator(*key));
        if let Some(Body::Operator(operator)) = entry.map(|entry| &entry.record.body) {
            return Some(self.seat(operator, true));
        }
        let genesis = self.state().genesis.as_ref().filter(|genesis| genesis.root == *key)?;
        let name = genesis.root_name.clone();
        Some(self.seat(&Operator { key: *key, name, role: Role::Admin, keep: Vec::new() }, true))
    }

    fn seat(&self, operator: &Operator, removed: bool) -> Seat {
        let Operator { key, name, role, .. } = operator.clone();
        let entry = self.catalogue.record(&RecordKey::Operator(key));
        let genesis = self.catalogue.record(&RecordKey::Genesis);
        let written = entry.or(genesis).map_or(WallTime(0), |entry| entry.record.stamp.written);
        let appointed_by = entry.map(|entry| entry.record.author);
        Seat { key, name, role, appointed_by, since: written, removed }
    }

    /// What an operator is or was called; the key of somebody who is not known.
    pub(crate) fn name_of(&self, key: &PublicKey) -> String {
        let held = self.state().operators.get(key).map(|operator| operator.name.to_string());
        held.or_else(|| self.last_seat(key).map(|seat| seat.name.to_string()))
            .unwrap_or_else(|| key.to_string())
    }

    /// That whoever asks is an admin, before anything is asked or planned.
    pub(crate) fn demand_admin(&self) -> Result<(), Failure> {
        match self.state().operators.get(&self.me).map(|operator| operator.role) {
            Some(Role::Admin) | None => Ok(()),
            Some(role) => {
                let needed = Role::Admin;
                let reason =
                    format!("this {NEEDS_ROLE} {needed}, and this key has the role {role}");
                Err(CallError::Role { reason }.into())
            }
        }
    }

    /// What would hold with these records as well.
    pub(crate) fn foresee(&self, records: &[Record]) -> Result<State, Refusal> {
        let entries: Vec<Entry> = records.iter().map(unsigned).collect();
        if let Some((_, refusal)) = self.catalogue.check(&entries).0.into_iter().next() {
            return Err(refusal);
        }
        let mut catalogue = self.catalogue.clone();
        catalogue.extend(entries);
        Ok(catalogue.state().clone())
    }
}

/// A record as the catalogue takes it, in a copy that never leaves this process.
fn unsigned(record: &Record) -> Entry {
    let bytes = format!("{record:?}").into_bytes();
    let signed = SignedBytes { bytes, signature: Signature([0; 64]) };
    Entry { record: record.clone(), hash: signed.digest(), signed, invitation_verified: true }
}
