//! What a new root takes over from the old one.

use std::collections::BTreeSet;

use mesh_coordinator::catalogue::{Body, Entry, KeptRecord, Record, RecordKey, Recovery, State};
use mesh_coordinator::id::{Hash, PublicKey};
use mesh_coordinator::name::{MeshName, OperatorName};
use mesh_coordinator::time::WallTime;
use mesh_identity::keys;

use super::Args;
use crate::command::operator::keep::Removal;
use crate::failure::Failure;
use crate::intent::Author;
use crate::roll::{Roll, Seat};
use crate::target;

/// What is to be done, and what it comes to.
#[derive(Debug)]
pub(super) struct Plan {
    /// The record that does it.
    pub(super) record: Record,
    /// What the new root writes afterwards: the old root's join tokens end.
    pub(super) tokens: Vec<Body>,
    /// The new root.
    pub(super) root: PublicKey,
    /// What it is called.
    pub(super) name: OperatorName,
    /// The mesh.
    pub(super) mesh_name: MeshName,
    /// The operators afterwards.
    pub(super) operators: Vec<String>,
    /// What goes.
    pub(super) lost: Vec<String>,
    /// Who was the root.
    old: String,
}

impl Plan {
    /// The plan of replacing the root by `root`, and the recovery key by `next`.
    pub(super) fn of(
        args: &Args,
        roll: &Roll,
        (root, next): (&PublicKey, &PublicKey),
        now: WallTime,
    ) -> Result<Self, Failure> {
        let state = roll.state();
        let me = roll.me();
        if state.recovery != Some(me) {
            return Err(not_ours(roll));
        }
        let (Some(old), Some(genesis)) = (state.root, state.genesis.as_ref()) else {
            return Err(Failure::failed("the records of the mesh do not say who its root is"));
        };
        let name = match &args.name {
            Some(name) => name.clone(),
            None => state.operators.get(&old).map_or(&genesis.root_name, |it| &it.name).clone(),
        };
        let left_out = left_out(args, roll, old)?;
        let mut tokens = Vec::new();
        let mut keep = BTreeSet::new();
        for former in state.former_roots.iter().chain([&old]) {
            let (stays, ended) = Removal::of(*former, roll, now)?.into_list();
            keep.extend(stays);
            tokens.extend(ended);
        }
        // Used join tokens stay for the sake of the members who joined by them, and are ended afterwards.
        let used: BTreeSet<RecordKey> = tokens.iter().map(Body::key).collect();
        let used = roll.catalogue().all().filter(|it| {
            used.contains(&it.record.body.key())
                && (it.record.author == old || state.former_roots.contains(&it.record.author))
        });
        keep.extend(used.map(|entry| KeptRecord { hash: entry.hash }));
        keep.retain(|kept| !left_out.contains(&kept.hash));
        let recovery = Recovery {
            root: *root,
            root_name: name.clone(),
            recovery: *next,
            keep: keep.into_iter().collect(),
        };
        let author = Author { mesh: roll.catalogue().mesh(), key: me, now };
        let parent = roll.catalogue().record(&RecordKey::Recovery);
        let record = author.follow(parent, Body::Recovery(recovery));
        let after = roll.foresee(std::slice::from_ref(&record));
        let after = after
            .map_err(|refusal| Failure::failed(format!("the mesh would refuse it: {refusal}")))?;
        Ok(Self {
            record,
            tokens,
            root: *root,
            name,
            mesh_name: genesis.name.clone(),
            operators: operators(&after, root),
            lost: lost(state, &after, old),
            old: format!("{} ({})", roll.name_of(&old), keys::fingerprint(&old)),
        })
    }

    /// What it means, in words.
    pub(super) fn meaning(&self) -> String {
        let listed = |names: &[String]| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            target::listed(&names)
        };
        let mut text = format!(
            "{} is the root of {} no more: that key is refused for good. {} is the root by a new key.\n\
             Operators afterwards: {}.",
            self.old,
            self.mesh_name,
            self.name,
            listed(&self.operators)
        );
        if !self.lost.is_empty() {
            text.push_str(&format!("\nThis goes with the old root: {}.", listed(&self.lost)));
        }
        text
    }
}

/// The recovery key does not count: say why, as far as can be known.
fn not_ours(roll: &Roll) -> Failure {
    let used = roll.catalogue().all().any(|entry| {
        matches!(entry.record.body, Body::Recovery(_)) && entry.record.author == roll.me()
    });
    if used {
        let text = "this recovery key was used already, and works only once: the one that was shown then counts now";
        return Failure::failed(text).next("agentctl operator ls shows who the admins are");
    }
    Failure::failed("this is not the recovery key of this mesh").next("agentctl context ls")
}

/// The records that the new root does not take over.
fn left_out(args: &Args, roll: &Roll, old: PublicKey) -> Result<BTreeSet<Hash>, Failure> {
    let roots = |entry: &&Entry| {
        entry.record.author == old || roll.state().former_roots.contains(&entry.record.author)
    };
    let mut found = BTreeSet::new();
    let seats: Vec<Seat> = roll.seats();
    let gone = roll.removed();
    for (names, seats, wanted) in [(&args.drop, &seats, "drop"), (&args.restore, &gone, "restore")]
    {
        for name in names {
            let seat = target::operator(seats, name)?;
            let key = match wanted {
                "drop" => RecordKey::Operator(seat.key),
                _ => RecordKey::OperatorRemoval(seat.key),
            };
            let own = roll.catalogue().all().filter(roots);
            let own: Vec<Hash> = own
                .filter(|entry| entry.record.body.key() == key)
                .map(|entry| entry.hash)
                .collect();
            if own.is_empty() {
                let verb = if wanted == "drop" { "made" } else { "removed" };
                return Err(Failure::usage(
                    format!("--{wanted} {name}: it was not the root who {verb} this operator"),
                    "agentctl operator ls --all",
                ));
            }
            found.extend(own);
        }
    }
    // Whoever has removed the root would do so again.
    if roll.state().removed_operators.contains(&old) {
        let removers = roll
            .catalogue()
            .all()
            .filter(|entry| entry.record.body.key() == RecordKey::OperatorRemoval(old));
        let removers: BTreeSet<PublicKey> = removers.map(|entry| entry.record.author).collect();
        let grants = roll.catalogue().all().filter(roots).filter(|entry| {
            matches!(entry.record.body.key(), RecordKey::Operator(key) if removers.contains(&key))
        });
        found.extend(grants.map(|entry| entry.hash));
    }
    Ok(found)
}

fn operators(state: &State, root: &PublicKey) -> Vec<String> {
    let words = |operator: &mesh_coordinator::catalogue::Operator| {
        let role = operator.role.to_string();
        let what = if operator.key == *root { "the root" } else { role.as_str() };
        format!("{} ({what})", operator.name)
    };
    state.operators.values().map(words).collect()
}

/// What was there and is no more.
fn lost(before: &State, after: &State, old: PublicKey) -> Vec<String> {
    let operators = before.operators.values();
    let operators = operators
        .filter(|it| it.key != old && !after.operators.contains_key(&it.key))
        .map(|it| format!("the operator {}", it.name));
    let apps = before.apps.iter().filter(|(app, _)| !after.apps.contains_key(*app));
    let apps = apps.map(|(_, app)| format!("the app {}", app.release.spec.name));
    let nodes = before.nodes.iter().filter(|(node, _)| !after.nodes.contains_key(*node));
    let nodes = nodes.map(|(_, node)| format!("the node {}", node.name));
    operators.chain(apps).chain(nodes).collect()
}

#[cfg(test)]
mod tests;
