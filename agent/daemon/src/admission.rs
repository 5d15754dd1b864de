//! Redeems invitations that name this node.

use std::sync::Arc;

use mesh_coordinator::catalogue::{Body, Entry, Invitation, Member, Record, RecordKey, Stamp};
use mesh_coordinator::clocks::Span;
use mesh_coordinator::id::{MeshId, NodeId, PublicKey};
use mesh_engine::{Clock, Handle};
use mesh_identity::invite::{self, Invitee};
use mesh_identity::keys::NodeIdentity;
use mesh_identity::record;
use mesh_ports::clock::WallClock as _;
use mesh_ports::control::{Admission, Admitted, Control, JoinError, JoinRequest};
use mesh_ports::directory::{Directory, Signer, Standing};
use mesh_ports::store::{Change, Store, StoreError, Table};
use mesh_telemetry::{Reason, Refusals};
use tokio::sync::Mutex;
use tracing::info;

/// Redeems invitations. Uses are counted on this node's disk before anybody is admitted.
#[derive(Debug)]
pub(crate) struct Door<S, D, C = Handle> {
    pub(crate) mesh: MeshId,
    pub(crate) identity: Arc<NodeIdentity>,
    pub(crate) control: C,
    pub(crate) directory: Arc<D>,
    pub(crate) store: Arc<S>,
    pub(crate) clock: Clock,
    pub(crate) refusals: Refusals,
    /// One at a time, so that two guests cannot share one use.
    pub(crate) turn: Mutex<()>,
}

impl<S: Store, D: Directory, C: Control> Admission for Door<S, D, C> {
    async fn redeem(&self, request: JoinRequest) -> Result<Admitted, JoinError> {
        let key = request.key;
        let admitted = self.admit(request).await;
        if let Err(error) = &admitted
            && let Some(reason) = reason(error)
        {
            let from = format_args!("node {}", NodeId::of(&key));
            self.refusals.refuse(reason, from, error);
        }
        admitted
    }
}

/// What it counts as when a node is not admitted; `None` when its token is good.
const fn reason(error: &JoinError) -> Option<Reason> {
    match error {
        JoinError::Unknown | JoinError::OtherNode(_) | JoinError::Forged => {
            Some(Reason::TokenInvalid)
        }
        JoinError::Expired { .. } => Some(Reason::TokenExpired),
        JoinError::UsedUp(_) => Some(Reason::TokenUsedUp),
        JoinError::Removed => Some(Reason::RemovedMember),
        JoinError::NameTaken(_) | JoinError::Store(_) => None,
    }
}

/// Counts the use of an invitation by a guest on this disk; false when it is used up. A guest is counted once.
fn count(
    store: &impl Store,
    invitation: &Invitation,
    guest: &PublicKey,
) -> Result<bool, StoreError> {
    let (key, guest) = (invitation.key.0.to_vec(), guest.0);
    let uses = usize::try_from(invitation.uses).unwrap_or(usize::MAX);
    let mut guests = store.get(Table::Redemptions, &key)?.unwrap_or_default();
    if guests.chunks_exact(guest.len()).any(|counted| counted == guest) {
        return Ok(true);
    }
    if guests.len() / guest.len() >= uses {
        return Ok(false);
    }
    guests.extend_from_slice(&guest);
    store.commit(vec![Change::Put(Table::Redemptions, key, guests)])?;
    Ok(true)
}

/// Whether an invitation can still be redeemed at `now`. While nobody can say which of two clocks is right, it can by either; one
/// that was ended never can.
const fn check_expiry(invitation: &Invitation, now: Span) -> Result<(), JoinError> {
    let has_ended = invitation.expires.0 == 0;
    if has_ended || now.earliest.0 > invitation.expires.0 {
        return Err(JoinError::Expired { expired: invitation.expires.0, now: now.earliest.0 });
    }
    Ok(())
}

impl<S: Store, D: Directory, C: Control> Door<S, D, C> {
    /// Lets a guest in whose token is good, and counts its use.
    async fn admit(&self, request: JoinRequest) -> Result<Admitted, JoinError> {
        let _turn = self.turn.lock().await;
        let invitation = self.invitation(&request).await?;
        let node = NodeId::of(&request.key);
        match self.directory.standing(&request.key) {
            Standing::Removed | Standing::Parted(_) => return Err(JoinError::Removed),
            // The answer to an earlier attempt was lost: the same guest gets the same answer.
            Standing::Member(_) => return Ok(self.welcome().await),
            Standing::Operator(_) | Standing::Recovery | Standing::Unknown => {}
        }
        check_expiry(&invitation, self.clock.span())?;
        let taken = self
            .directory
            .peers()
            .iter()
            .any(|peer| peer.name == request.name && peer.node != node)
            || self
                .directory
                .peer(self.identity.node())
                .is_some_and(|own| own.name == request.name);
        if taken {
            return Err(JoinError::NameTaken(request.name));
        }
        self.count(&invitation, &request.key).await?;
        let member = self.member(&request)?;
        let submitted = self.control.submit(vec![member, request.address.clone()]).await;
        let submitted = submitted
            .map_err(|error| JoinError::Store(mesh_telemetry::Chain(&error).to_string()))?;
        if let Some((_, reason)) = submitted.refused.first() {
            return Err(JoinError::Store(reason.clone()));
        }
        info!(%node, name = %request.name, "admitted");
        Ok(self.welcome().await)
    }

    /// The invitation, when it is one for this guest here.
    async fn invitation(&self, request: &JoinRequest) -> Result<Invitation, JoinError> {
        let record = self.control.record(RecordKey::Invitation(request.invitation)).await;
        let Some(Body::Invitation(invitation)) = record.map(|entry| entry.record.body) else {
            return Err(JoinError::Unknown);
        };
        if invitation.redeemer != self.identity.node() {
            return Err(JoinError::OtherNode(invitation.redeemer));
        }
        let invitee = Invitee { mesh: self.mesh, key: request.key, name: request.name.clone() };
        if !invite::verifies(&request.invitation, &invitee, &request.invited) {
            return Err(JoinError::Forged);
        }
        Ok(invitation)
    }

    /// Counts the use, on disk. A guest that was counted before is not counted again.
    async fn count(&self, invitation: &Invitation, guest: &PublicKey) -> Result<(), JoinError> {
        let (store, used, guest) = (Arc::clone(&self.store), invitation.clone(), *guest);
        let counted = tokio::task::spawn_blocking(move || count(store.as_ref(), &used, &guest));
        match counted.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(JoinError::UsedUp(invitation.uses)),
            Ok(Err(error)) => Err(JoinError::Store(mesh_telemetry::Chain(&error).to_string())),
            Err(panicked) => Err(JoinError::Store(panicked.to_string())),
        }
    }

    fn member(&self, request: &JoinRequest) -> Result<Entry, JoinError> {
        let record = Record {
            mesh: self.mesh,
            stamp: Stamp { generation: 1, written: self.clock.mesh(), tie: 0 },
            parent: None,
            author: self.identity.key(),
            body: Body::Member(Member {
                key: request.key,
                name: request.name.clone(),
                invitation: Some(request.invitation),
                invited: Some(request.invited),
            }),
        };
        let signed = record::sign_by_node(&record, self.identity.as_ref());
        signed.map_err(|error| JoinError::Store(mesh_telemetry::Chain(&error).to_string()))
    }

    async fn welcome(&self) -> Admitted {
        Admitted { records: self.control.records().await }
    }
}

#[cfg(test)]
mod tests;
