//! What nodes tell makes one picture, whoever is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_coordinator::id::{AppUid, NodeId, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::{Configuration, StoreId, Timing, Token, WitnessId};
use mesh_coordinator::view::{Grant, LeaseView, Overview, Pursuit, Testimony};

use super::{Answer, Holder, Lease, Part, merge};
use crate::mesh::fake::{Fake, node};
use crate::mesh::{Known, Mesh as _};

const SECOND: Duration = Duration::from_secs(1);

fn id(n: u8) -> NodeId {
    node(n, "any").id
}

fn witness(n: u8) -> WitnessId {
    WitnessId { node: id(n), store: StoreId(n.into()) }
}

fn of(nodes: &[u8]) -> BTreeSet<WitnessId> {
    nodes.iter().map(|n| witness(*n)).collect()
}

fn view(version: u32) -> LeaseView {
    let first = Configuration::first(of(&[1, 2, 3]), Timing::DEFAULT_TTL);
    LeaseView {
        slot: SlotId {
            app: AppUid([1; 16]),
            service: "db".parse().unwrap(),
            index: SlotIndex::Number(0),
        },
        name: "blog/db/0".to_owned(),
        wanted: true,
        reset: 0,
        configuration: Configuration { version, ..first },
        pursuit: None,
        testimony: None,
    }
}

fn testimony(grant: Option<(u8, u64, u64)>) -> Testimony {
    let grant = grant.map(|(n, token, left)| Grant {
        node: id(n),
        token: Token(token),
        left: SECOND * u32::try_from(left).unwrap(),
    });
    Testimony { vouches: true, grant, ended_ago: None, promised: None }
}

fn granted(n: u8, grant: Option<(u8, u64, u64)>) -> Known {
    told(n, LeaseView { testimony: Some(testimony(grant)), ..view(0) })
}

fn told(n: u8, lease: LeaseView) -> Known {
    Known::Lease { node: id(n), lease: Box::new(lease) }
}

fn silent(n: u8) -> Known {
    let reason = "does not answer".to_owned();
    Known::Silent { node: id(n), name: "any".to_owned(), reason }
}

async fn overview() -> Overview {
    Fake::new().overview().await.unwrap()
}

async fn merged(told: Vec<Known>) -> Lease {
    let mut leases = merge(told, &overview().await);
    assert_eq!(leases.len(), 1, "{leases:?}");
    leases.remove(0)
}

fn answers(lease: &Lease) -> Vec<Answer> {
    [1, 2, 3]
        .map(|n| lease.witnesses.iter().find(|it| it.id.node == id(n)).unwrap().answer.clone())
        .into()
}

#[tokio::test]
async fn a_holder_knows_best_how_long_it_holds() {
    let pursuit = Some(Pursuit::Holding { token: Token(7), left: SECOND * 9 });
    let own = LeaseView { pursuit, testimony: Some(testimony(Some((1, 7, 10)))), ..view(0) };
    let lease =
        merged(vec![told(1, own), granted(2, Some((1, 7, 11))), granted(3, Some((1, 7, 12)))])
            .await;
    let holder = Holder { node: id(1), token: Token(7), left: SECOND * 9, says_so: true };
    assert_eq!(lease.holder, Some(holder));
    assert!(lease.has_quorum() && lease.seekers.is_empty());
}

#[tokio::test]
async fn a_holder_that_is_silent_is_known_by_most_of_its_witnesses() {
    let told = vec![silent(1), granted(2, Some((1, 7, 11))), granted(3, Some((1, 7, 4)))];
    let lease = merged(told).await;
    let holder = Holder { node: id(1), token: Token(7), left: SECOND * 4, says_so: false };
    assert_eq!(lease.holder, Some(holder), "it is over when either of the two has ended");
    assert_eq!(answers(&lease)[0], Answer::Silent("does not answer".to_owned()));

    let told = vec![granted(1, None), granted(2, Some((3, 7, 11))), granted(3, Some((2, 8, 4)))];
    assert_eq!(merged(told).await.holder, None, "one witness each is no majority");
}

#[tokio::test]
async fn of_two_that_say_they_hold_the_later_one_is_shown() {
    let holding = |n, token| {
        let pursuit = Some(Pursuit::Holding { token: Token(token), left: SECOND });
        told(n, LeaseView { pursuit, ..view(0) })
    };
    let lease = merged(vec![holding(1, 9), holding(2, 8)]).await;
    assert_eq!(lease.holder.map(|holder| holder.node), Some(id(1)));
}

#[tokio::test]
async fn without_a_holder_it_is_known_who_seeks_since_when_and_what_is_missing() {
    let ended = |n, secs| {
        let ended_ago = Some(SECOND * secs);
        told(
            n,
            LeaseView { testimony: Some(Testimony { ended_ago, ..testimony(None) }), ..view(0) },
        )
    };
    let waits = Pursuit::Waiting { left: SECOND };
    let seeker = told(3, LeaseView { pursuit: Some(waits), ..view(0) });
    let lease = merged(vec![ended(1, 40), ended(2, 30), seeker]).await;
    assert_eq!(lease.holder, None);
    assert_eq!(lease.free_for, Some(SECOND * 30));
    assert_eq!(lease.seekers, [(id(3), waits)]);
    assert!(lease.has_quorum(), "a witness that was never asked keeps nobody from the slot");

    let lease = merged(vec![ended(1, 40), silent(2), silent(3)]).await;
    assert!(!lease.has_quorum() && lease.may_recover());
}

#[tokio::test]
async fn a_witness_that_lost_its_store_or_its_place_counts_no_more() {
    let mut configuration = view(0).configuration;
    let other = WitnessId { node: id(1), store: StoreId(99) };
    let gone = WitnessId { node: id(9), store: StoreId(9) };
    configuration.current = [other, gone, witness(3)].into();
    let broken = Testimony { vouches: false, ..testimony(Some((3, 7, 5))) };
    let lease = LeaseView { configuration, testimony: Some(broken), ..view(0) };
    let lease = merged(vec![told(3, lease)]).await;
    let answer = |id| lease.witnesses.iter().find(|it| it.id == id).unwrap().answer.clone();
    assert_eq!(answer(other), Answer::OtherStore);
    assert_eq!(answer(gone), Answer::Removed);
    assert_eq!(answer(witness(3)), Answer::Broken);
    assert!(!lease.has_quorum() && !lease.may_recover(), "one of three is no majority");
}

#[tokio::test]
async fn the_latest_witnesses_count_and_a_change_needs_both_sets() {
    let first = Configuration::first(of(&[1]), Timing::DEFAULT_TTL);
    let changing = Configuration { version: 4, next: Some(of(&[2, 3])), ..first };
    let late = LeaseView { testimony: Some(testimony(None)), ..view(3) };
    let lease = LeaseView { configuration: changing, testimony: Some(testimony(None)), ..view(0) };
    let lease = merged(vec![told(1, lease), told(2, late), silent(3)]).await;
    assert_eq!(lease.configuration.version, 4);
    let part = |n| lease.witnesses.iter().find(|it| it.id == witness(n)).unwrap().part;
    assert_eq!((part(1), part(2)), (Part::Leaves, Part::Joins));
    assert!(!lease.has_quorum() && lease.may_recover(), "one of the two new ones is silent");
}

#[tokio::test]
async fn what_nobody_wants_is_shown_only_while_somebody_holds_it() {
    let unwanted = |grant| {
        let testimony = Some(testimony(grant));
        LeaseView { wanted: false, testimony, ..view(0) }
    };
    let overview = overview().await;
    assert!(merge(vec![told(1, unwanted(None)), told(2, unwanted(None))], &overview).is_empty());
    let grant = Some((3, 7, 5));
    let held = merge(vec![told(1, unwanted(grant)), told(2, unwanted(grant))], &overview);
    assert_eq!(held.len(), 1);
}

#[tokio::test]
async fn who_has_not_heard_of_a_reset_is_not_listened_to() {
    let holding = Some(Pursuit::Holding { token: Token(7), left: SECOND });
    let former = LeaseView { pursuit: holding, testimony: Some(testimony(None)), ..view(9) };
    let reset = LeaseView { reset: 5, ..view(0) };
    let lease = merged(vec![told(1, reset), told(2, former)]).await;
    assert_eq!((lease.holder, lease.configuration.version), (None, 0));
}

#[tokio::test]
async fn a_node_is_needed_when_the_others_are_no_majority() {
    let all = [1, 2, 3].map(|n| granted(n, None));
    let well = merged(all.to_vec()).await;
    assert!(!well.needs(id(1)) && !well.needs(id(9)));
    let one_silent = merged(vec![granted(1, None), granted(2, None), silent(3)]).await;
    assert!(one_silent.needs(id(1)) && one_silent.needs(id(2)));
    assert!(!one_silent.needs(id(3)), "the others go on without it");
    let two_silent = merged(vec![granted(1, None), silent(2), silent(3)]).await;
    assert!(!two_silent.needs(id(3)), "either of the others is enough when it is back");

    let pair = Configuration::first(of(&[1, 2]), Timing::DEFAULT_TTL);
    let pair = LeaseView { configuration: pair, ..view(0) };
    let lost = merged(vec![told(1, pair.clone()), silent(2)]).await;
    assert!(lost.needs(id(1)) && lost.needs(id(2)), "nothing brings it back without either");
    let mut gone = lost;
    gone.witnesses[0].answer = Answer::Removed;
    gone.witnesses[1].answer = Answer::OtherStore;
    assert!(!gone.needs(id(1)) && !gone.needs(id(2)), "what is lost already keeps nobody");
}
