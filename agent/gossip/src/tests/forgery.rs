//! What a hostile member does to the others with chitchat itself, which believes whoever is newer: whole agents go on, and what a
//! node says is heard from it alone.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, DeletionStatus, FailureDetectorConfig,
    ProtocolVersion, VersionedValue,
};
use mesh_coordinator::id::Incarnation;
use mesh_ports::gossip::{Event, FactCodec as _, Gossip as _};
use mesh_telemetry::Reason;

use super::world::{Agent, Eyes, MESH, World, config, node, until_all_meet, vote};
use crate::{Medium, Memory, keys};

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 7_000))
}

/// Chitchat itself, in the hands of member 9, who does with it what no agent does.
struct Saboteur(ChitchatHandle);

impl Saboteur {
    /// Its first words go to member `first`.
    async fn start(memory: &Memory, first: u8) -> Self {
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(node(9).to_string(), 1, address(9)),
            cluster_id: MESH.to_string(),
            gossip_interval: Duration::from_millis(40),
            listen_addr: address(9),
            seed_nodes: vec![address(first).to_string()],
            failure_detector_config: FailureDetectorConfig::default(),
            marked_for_deletion_grace_period: Duration::from_secs(60),
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V1,
        };
        Self(chitchat::spawn_chitchat(config, Vec::new(), &memory.0).await.unwrap())
    }

    /// Says in the name of member `n` in the life `life`.
    async fn say_for(&self, (n, life): (u8, u64), key: &str, value: VersionedValue) {
        self.say_at(address(n), (n, life), key, value).await;
    }

    /// Says the same as if that member were at `address`.
    async fn say_at(
        &self,
        address: SocketAddr,
        (n, life): (u8, u64),
        key: &str,
        value: VersionedValue,
    ) {
        let id = ChitchatId::new(node(n).to_string(), life, address);
        let forge = |chitchat: &mut Chitchat| {
            let said = [(key.to_owned(), value.clone())].into_iter();
            chitchat.reset_node_state_if_update(&id, said, value.version, 0);
        };
        self.0.with_chitchat(forge).await;
    }
}

impl Drop for Saboteur {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn value(words: String, version: u64, is_deleted: bool) -> VersionedValue {
    let status = if is_deleted {
        DeletionStatus::Deleted(tokio::time::Instant::now())
    } else {
        DeletionStatus::Set
    };
    VersionedValue { value: words, version, status }
}

/// Members 1 and 2, of which the first has said something, and the saboteur's network.
async fn pair() -> (Arc<World>, Memory, Vec<Agent>) {
    let world = World::of(&[1, 2, 9]);
    let memory = Memory::default();
    let mut agents = Vec::new();
    for n in [1, 2] {
        let (address, medium) = (address(n), Medium::Memory(memory.clone()));
        let config =
            crate::Config { bind: address, advertise: address, medium, ..config(&world, n) };
        agents.push(Agent::start_with(&world, config, Arc::default(), n).await);
        world.admit(n, address.to_string());
    }
    agents[0].handle.publish(vote(0, 1)).await;
    until_all_meet(&mut agents).await;
    agents[1].until("a fact", |agent| agent.facts(1) == [vote(0, 1)]).await;
    (world, memory, agents)
}

/// After an attack on what member 1 says: in a new life it says the same, and goes on to say more.
async fn holds(mut agents: Vec<Agent>, former: Incarnation) {
    let again = |agent: &Agent| agent.life(1) > former && agent.facts(1) == [vote(0, 1)];
    agents[1].until("what it said before, in a new life", again).await;
    agents[0].handle.publish(vote(1, 1)).await;
    agents[1].until("what it says next", |agent| agent.facts(1).len() == 2).await;
    assert!(agents[0].refusals.count(Reason::FactSignature) > 0, "it knows of the forgery");
    assert!(!agents[0].has_stopped(), "no task of it ended by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_forges_in_the_name_of_another_is_refused_and_the_other_prevails() {
    let (world, memory, mut agents) = pair().await;
    let life = agents[0].handle.incarnation();
    // The forgery reaches the other one as soon as the victim, whose new life has to wait until the other one has judged it.
    world.n_disk_faults.store(u64::MAX, Ordering::SeqCst);
    let saboteur = Saboteur::start(&memory, 2).await;
    // Under the key of the true fact, signed by the forger, with the last number that there is: what comes after it would overflow.
    let forged = Eyes::new(&world, 9).seal(life, &vote(0, 7));
    let key = keys::to_text(vote(0, 1).key());
    saboteur.say_for((1, life.0), &key, value(format!("1{forged}"), u64::MAX, false)).await;
    let refused = |agent: &Agent| agent.refusals.count(Reason::FactSignature) > 0;
    agents[1].until("a refusal", refused).await;
    assert_eq!(agents[1].life(1), life);
    world.n_disk_faults.store(0, Ordering::SeqCst);
    agents[1].until("a new life", |agent| agent.life(1) > life).await;
    let lost = agents[1].log.iter().find(|event| matches!(event, Event::Withdrawn { .. }));
    assert_eq!(lost, None, "what it said itself stands all the time");
    drop(saboteur);
    holds(agents, life).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_takes_back_in_the_name_of_another_is_said_again() {
    let (_world, memory, agents) = pair().await;
    let life = agents[0].handle.incarnation();
    let saboteur = Saboteur::start(&memory, 1).await;
    let key = keys::to_text(vote(0, 1).key());
    saboteur.say_for((1, life.0), &key, value(String::new(), 1_000, true)).await;
    let mut agents = agents;
    agents[1].until("a new life", |agent| agent.life(1) > life).await;
    drop(saboteur);
    holds(agents, life).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_repeats_as_if_another_were_elsewhere_costs_a_life_and_no_fact() {
    let (world, memory, mut agents) = pair().await;
    let life = agents[0].handle.incarnation();
    let saboteur = Saboteur::start(&memory, 1).await;
    // The true fact as its author signed it, with a number above those of all that the author has said.
    let signed = Eyes::new(&world, 1).seal(life, &vote(0, 1));
    let key = keys::to_text(vote(0, 1).key());
    saboteur.say_at(address(8), (1, life.0), &key, value(format!("1{signed}"), 1_000, false)).await;
    agents[1].until("a new life", |agent| agent.life(1) > life).await;
    assert_eq!(agents[0].handle.counters().twins, 0, "no other agent has its key");
    drop(saboteur);
    holds(agents, life).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_that_runs_in_the_same_life_is_known_by_the_next_one() {
    let (world, memory, mut agents) = pair().await;
    let config = crate::Config {
        incarnation: agents[0].handle.incarnation(),
        bind: address(3),
        advertise: address(3),
        medium: Medium::Memory(memory),
        ..config(&world, 1)
    };
    let clone = Agent::start_with(&world, config, Arc::default(), 1).await;
    let alarmed = |agent: &Agent| agent.handle.counters().twins > 0;
    agents[0].until("the alarm of one of them", |agent| alarmed(agent) || alarmed(&clone)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_highest_life_that_there_is_is_nobodys_unless_it_is_proved() {
    let (world, memory, mut agents) = pair().await;
    let life = agents[0].handle.incarnation();
    let saboteur = Saboteur::start(&memory, 1).await;
    let forged = Eyes::new(&world, 9).seal(Incarnation(u64::MAX), &vote(0, 7));
    let key = keys::to_text(vote(0, 1).key());
    saboteur.say_for((1, u64::MAX), &key, value(format!("1{forged}"), u64::MAX, false)).await;
    agents[0].until("the alarm", |agent| agent.handle.counters().twins > 0).await;
    agents[0].handle.publish(vote(0, 2)).await;
    let heard = |agent: &Agent| agent.life(1) == life && agent.facts(1) == [vote(0, 2)];
    agents[1].until("what the true one says", heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_chitchat_costs_a_life_and_no_fact() {
    let (_world, memory, mut agents) = pair().await;
    let life = agents[0].handle.incarnation();
    let saboteur = Saboteur::start(&memory, 1).await;
    // A key that makes every peer of it panic. It would make itself panic too if that were not caught.
    let sabotage = |chitchat: &mut Chitchat| {
        let set = AssertUnwindSafe(|| chitchat.self_node_state().set("é", "1"));
        assert!(catch_unwind(set).is_err());
    };
    saboteur.0.with_chitchat(sabotage).await;
    agents[0].until("a fault", |agent| agent.handle.counters().respawns > 0).await;
    drop(saboteur);
    agents[0].until("a new life", |agent| agent.handle.incarnation() > life).await;
    let again = |agent: &Agent| agent.life(1) > life && agent.facts(1) == [vote(0, 1)];
    agents[1].until("its fact again", again).await;
}
