//! When waiting ends, and with which result.

use std::cell::Cell;
use std::time::Duration;

use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{AppUid, Revision, SlotId, SlotIndex};
use mesh_coordinator::spec::{Guarantee, Mode};
use mesh_coordinator::view::{ClaimView, NodeStatus, ServiceView, SlotView};

use super::{Applied, Fault, Goal, Rollout, state, until_ready};
use crate::failure::Outcome;
use crate::mesh::fake::{Fake, node};
use crate::ui::Format;
use crate::ui::capture::Captured;

fn claim(phase: Phase, node_status: NodeStatus, current: bool) -> ClaimView {
    let node = node(1, "alpha");
    ClaimView {
        node: node.id,
        node_name: node.name,
        node_status,
        revision: Revision { number: 1, id: 1 },
        current,
        phase,
        yielding: false,
        restarts: 0,
        failover_ms: None,
        token: None,
        detail: String::new(),
    }
}

fn service(claims: Vec<ClaimView>) -> ServiceView {
    let slot = SlotId {
        app: AppUid([1; 16]),
        service: "web".parse().unwrap(),
        index: SlotIndex::Number(0),
    };
    ServiceView {
        name: "web".parse().unwrap(),
        image: "hello:1".to_owned(),
        digest: String::new(),
        revision: Revision { number: 1, id: 1 },
        guarantee: Guarantee::Available,
        mode: Mode::Replicated(1),
        n_wanted: 1,
        n_ready: 0,
        ports: Vec::new(),
        failover_bound: Duration::from_secs(1),
        slots: vec![SlotView { slot, name: "blog/web/0".to_owned(), wanted: true, claims }],
    }
}

#[test]
fn a_replica_on_a_dead_node_is_neither_ready_nor_in_the_way() {
    let lost = service(vec![claim(Phase::Ready, NodeStatus::Down, true)]);
    assert_eq!(state(&[&lost]).open.len(), 1);
    let moved = service(vec![
        claim(Phase::Ready, NodeStatus::Alive, true),
        claim(Phase::Ready, NodeStatus::Down, false),
    ]);
    assert_eq!((state(&[&moved]).open.len(), state(&[&moved]).leaving.len()), (0, 0));
}

#[test]
fn an_old_replica_that_still_runs_is_waited_for() {
    let both = service(vec![
        claim(Phase::Ready, NodeStatus::Alive, true),
        claim(Phase::Ready, NodeStatus::Alive, false),
    ]);
    assert_eq!(state(&[&both]).leaving.len(), 1);
}

#[test]
fn what_is_scaled_away_is_waited_for_until_it_has_stopped() {
    let released = || claim(Phase::Released, NodeStatus::Alive, true);
    let mut one = service(vec![released()]);
    assert_eq!(state(&[&one]).leaving.len(), 0, "a replacement does not wait for it");
    one.slots[0].wanted = false;
    assert_eq!(state(&[&one]).leaving, [("blog/web/0".to_owned(), "alpha".to_owned())]);
    one.slots[0].claims[0].node_status = NodeStatus::Down;
    assert_eq!(state(&[&one]).leaving.len(), 0);
}

#[test]
fn a_process_that_ended_for_good_is_settled() {
    let ended = service(vec![claim(Phase::Ended, NodeStatus::Alive, true)]);
    let state = state(&[&ended]);
    assert_eq!((state.open.len(), state.ready, state.wanted), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_try_again_for_ever_are_not_waited_for_for_ever() {
    let mut troubles = super::Troubles::default();
    let begun = tokio::time::Instant::now();
    let failed = || ClaimView {
        detail: "no such program".to_owned(),
        ..claim(Phase::Failed, NodeStatus::Alive, true)
    };
    let trying = || claim(Phase::Starting, NodeStatus::Alive, true);
    // Each node gives up for a while and then begins anew, and nothing is left of what it had found out.
    let rounds = (0..20).map(|round| if round % 4 == 0 { failed() } else { trying() });
    let end = async {
        for one in rounds {
            let state = state(&[&service(vec![one])]);
            if troubles.is_hopeless(&state) {
                return Some((begun.elapsed(), troubles.last(&state.open[0].slot).unwrap().1));
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        None
    };
    let (after, reason) = end.await.expect("it is given up");
    assert!(after <= Duration::from_secs(22), "{after:?}");
    assert_eq!(reason, "gave up: no such program");
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_claimed_again_is_waited_for() {
    let mut troubles = super::Troubles::default();
    for _ in 0..20 {
        for claims in [Vec::new(), vec![claim(Phase::Starting, NodeStatus::Alive, true)]] {
            assert!(!troubles.is_hopeless(&state(&[&service(claims)])));
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_as_soon_as_it_is_ready_is_not_ready() {
    let ready = |restarts| {
        state(&[&service(vec![ClaimView {
            restarts,
            ..claim(Phase::Ready, NodeStatus::Alive, true)
        }])])
    };
    let mut calm = super::Calm::default();
    assert_eq!(calm.restless(&ready(0)), [], "nobody waits for what went well");
    for restarts in 1..5 {
        assert_eq!(calm.restless(&ready(restarts)).len(), 1);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(calm.restless(&ready(restarts)).len(), 1);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(calm.restless(&ready(4)), []);
}

#[tokio::test(start_paused = true)]
async fn the_pause_before_a_start_is_no_calm() {
    let at = |phase| {
        let again = ClaimView { restarts: 3, ..claim(phase, NodeStatus::Alive, true) };
        state(&[&service(vec![again])])
    };
    let mut calm = super::Calm::default();
    assert_eq!(calm.restless(&at(Phase::Starting)), []);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(calm.restless(&at(Phase::Ready)).len(), 1, "it has just begun");
}

/// The timeout may strike at any moment, also while it is up.
#[tokio::test(start_paused = true)]
async fn what_ends_again_and_again_is_a_fault_even_while_it_is_ready() {
    let looping = ClaimView { restarts: 4, ..claim(Phase::Ready, NodeStatus::Alive, true) };
    let steady = ClaimView { restarts: 0, ..looping.clone() };
    let services = [service(vec![looping]), service(vec![steady])];
    let mut state = state(&services.each_ref());
    state.ready = 2;
    let restless = super::Calm::default().restless(&state);
    let timeout = Some(Duration::from_secs(30));
    let troubles = super::Troubles::default();
    let end = super::conclude(&Fake::new(), (state, restless), &troubles, timeout).await;
    assert_eq!((end.ready, end.outcome()), (1, Outcome::Partly));
    let [fault] = end.faults.as_slice() else { panic!("{end:?}") };
    assert_eq!((fault.slot.as_str(), fault.node.as_deref()), ("blog/web/0", Some("alpha")));
    assert!(fault.reason.ends_with("was started again 4 times"), "{fault:?}");
}

#[test]
fn what_an_earlier_definition_serves_is_counted() {
    let old = || claim(Phase::Ready, NodeStatus::Alive, false);
    let both = vec![old(), claim(Phase::Starting, NodeStatus::Alive, true)];
    assert_eq!(state(&[&service(both)]).old, 1);
    let renewed = vec![old(), claim(Phase::Ready, NodeStatus::Alive, true)];
    assert_eq!(state(&[&service(renewed)]).old, 0);
    let lost = vec![claim(Phase::Ready, NodeStatus::Down, false)];
    assert_eq!(state(&[&service(lost)]).old, 0);
}

#[test]
fn faults_make_the_outcome() {
    let fault = Fault { slot: "blog/web/0".to_owned(), node: None, reason: String::new() };
    let end =
        |ready, faults: &[Fault]| Rollout { ready, wanted: 2, old: 0, faults: faults.to_vec() };
    assert_eq!(end(2, &[]).outcome(), Outcome::Done);
    assert_eq!(end(1, std::slice::from_ref(&fault)).outcome(), Outcome::Partly);
    assert_eq!(end(0, &[fault]).outcome(), Outcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_never_arrives_ends_at_the_timeout() {
    let (fake, captured) = (Fake::new(), Captured::default());
    let goal = Goal {
        app: AppUid([1; 16]),
        services: Vec::new(),
        applied: Box::new(|_| Applied::Waiting),
        timeout: Duration::from_secs(30),
    };
    let failure = until_ready(&fake, &mut captured.ui(Format::Text, None), goal).await.unwrap_err();
    assert!(failure.message().unwrap().contains("have not taken note"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn agents_that_fall_silent_for_a_moment_are_waited_for() {
    let (fake, captured) = (Fake::new(), Captured::default());
    let mut ui = captured.ui(Format::Text, None);
    fake.silent_for.set(8);
    super::until_none(&fake, &mut ui, Duration::from_secs(60), |_| Vec::new()).await.unwrap();
    fake.silent_for.set(1_000);
    let counted = Cell::new(0);
    let count = |_: &_| {
        counted.set(counted.get() + 1);
        Vec::new()
    };
    let failure = super::until_none(&fake, &mut ui, Duration::from_secs(60), count).await;
    assert_eq!((failure.unwrap_err().code(), counted.get()), (1, 0));
}
