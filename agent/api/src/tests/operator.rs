//! What operators ask is answered, from any agent.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_coordinator::catalogue::{RecordKey, Role};
use mesh_coordinator::event::{Event, Severity, Subject};
use mesh_coordinator::id::{AppUid, NodeId};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{SlotView, Why};
use mesh_identity::request;
use mesh_ports::control::LocalReplica;
use mesh_ports::request::{Challenge, Request};
use mesh_ports::runtime::{ContainerId, Exec, ExecInput, ExecOutput, LogQuery, Output, Window};
use mesh_proto::v1::operator_client::OperatorClient as Wire;
use mesh_telemetry::Reason;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::fakes::{MESH, digest_of};
use super::security::channel;
use super::world::{NOW, OWN, World, access, entry, eventually, keys, slot};
use crate::client::{AgentAddress, Error, EventsItem, ExecRequest, LogsRequest, OperatorClient};
use crate::convert;

fn event(seen_by: NodeId, at: u64, text: &str) -> Event {
    let (severity, subject) = (Severity::Info, Subject::Mesh);
    Event { at: WallTime(at), seen_by, severity, subject, text: text.to_owned() }
}

fn replica(container: &str) -> LocalReplica {
    LocalReplica { container: ContainerId(container.to_owned()), name: "blog/web/0".to_owned() }
}

pub(super) fn command(args: &[&str]) -> Exec {
    Exec {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        environment: [("A".to_owned(), "b".to_owned())].into(),
        user: Some("root".to_owned()),
        working_dir: None,
        terminal: None,
    }
}

pub(super) const ALL: LogQuery = LogQuery { tail: Some(3), since: None, follow: false };

#[tokio::test]
async fn reads_are_answered_in_the_types_of_the_core() {
    let world = World::of(1).await;
    let client = world.connect(&world.operator(100, Role::Viewer)).await;
    let who = client.who().await.unwrap();
    assert_eq!((who.role, who.node_name.as_str()), (Role::Viewer, "node-1"));
    assert_eq!((who.mesh_name.as_str(), who.version.as_str()), ("prod", "0.1.0-test"));
    let view = world.agents[0].control.overview.lock().unwrap().clone();
    assert_eq!(Some(client.overview().await.unwrap()), view);

    assert!(matches!(client.why(&slot(0)).await, Err(Error::NotFound { .. })));
    let seen = SlotView { slot: slot(0), name: "a/web/0".to_owned(), wanted: true, claims: vec![] };
    let why = Why { slot: seen, candidates: vec![], decisions: vec![] };
    *world.agents[0].control.why.lock().unwrap() = Some(why.clone());
    assert_eq!(client.why(&slot(0)).await, Ok(why));
    assert_eq!(client.images().await, Ok(vec![]));
}

#[tokio::test]
async fn every_answer_tells_the_time_of_the_mesh() {
    let world = World::of(1).await;
    let operator = world.operator(100, Role::Deployer);
    // As of whoever wrote this test or reads it: nobody's own clock says so.
    let is_told = |client: &OperatorClient| {
        let time = client.time().unwrap();
        assert!((NOW..NOW + 60_000).contains(&time.0), "{time:?}");
    };
    let client = world.connect(&operator).await;
    assert_eq!(client.time(), None);
    client.catalogue().await.unwrap();
    is_told(&client);
    let client = world.connect(&operator).await;
    client.who().await.unwrap();
    is_told(&client);
    is_told(&client.clone());
}

#[tokio::test]
async fn submitted_records_are_opened_and_can_be_read_again() {
    let world = World::of(1).await;
    let operator = world.operator(100, Role::Deployer);
    let client = world.connect(&operator).await;
    let entry = entry(&operator, 1);
    let submitted = client.submit(std::slice::from_ref(&entry.signed)).await.unwrap();
    assert_eq!((submitted.n_peers, submitted.refused), (1, vec![]));
    let key = RecordKey::Run(AppUid([1; 16]));
    assert_eq!(client.record(&key).await, Ok(Some(entry.signed.clone())));
    assert_eq!(client.record(&RecordKey::Genesis).await, Ok(None));
    assert_eq!(client.catalogue().await, Ok(vec![entry.signed]));
}

#[tokio::test]
async fn one_forged_record_refuses_the_whole_submission_with_its_hash() {
    let world = World::of(1).await;
    let operator = world.operator(100, Role::Admin);
    let client = world.connect(&operator).await;
    let (good, mut forged) = (entry(&operator, 1).signed, entry(&operator, 2).signed);
    forged.signature.0[0] ^= 1;
    let submitted = client.submit(&[good, forged.clone()]).await.unwrap();
    assert_eq!(submitted.refused.first().map(|(hash, _)| *hash), Some(forged.digest()));
    assert!(world.agents[0].control.records.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_busy_engine_is_told_apart_from_a_refusal() {
    let world = World::of(1).await;
    let client = world.connect(&world.operator(100, Role::Admin)).await;
    *world.agents[0].control.busy.lock().unwrap() = true;
    assert!(matches!(client.submit(&[]).await, Err(Error::Busy { .. })));
}

#[tokio::test]
async fn logs_come_from_the_node_that_the_request_names() {
    let world = World::of(2).await;
    let client = world.connect(&world.operator(100, Role::Deployer)).await;
    for (agent, name) in world.agents.iter().zip(["first", "second"]) {
        agent.control.replicas.lock().unwrap().insert(slot(0), replica(name));
        let wanted = LogsRequest { node: agent.id, slot: slot(0), query: ALL };
        let mut lines = client.logs(&wanted).await.unwrap();
        let mut texts = Vec::new();
        while let Some(line) = lines.next().await {
            texts.push(String::from_utf8(line.unwrap().text.to_vec()).unwrap());
        }
        let expected: Vec<_> = (0..3).map(|n| format!("line {n} of {name}")).collect();
        assert_eq!(texts, expected);
    }
}

#[tokio::test]
async fn of_logs_one_speaks_in_the_time_of_the_mesh_and_the_node_in_its_own() {
    let world = World::of(2).await;
    let client = world.connect(&world.operator(100, Role::Deployer)).await;
    let agent = &world.agents[1];
    agent.control.replicas.lock().unwrap().insert(slot(0), replica("first"));
    let query = LogQuery { since: Some(WallTime(NOW)), ..ALL };
    let wanted = LogsRequest { node: agent.id, slot: slot(0), query };
    let mut lines = client.logs(&wanted).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().written, WallTime(NOW));
    assert_eq!(*agent.runtime.since.lock().unwrap(), Some(WallTime(OWN)));
}

#[tokio::test]
async fn what_another_node_refuses_arrives_in_its_words() {
    let world = World::of(2).await;
    let client = world.connect(&world.operator(100, Role::Deployer)).await;
    let wanted = LogsRequest { node: world.agents[1].id, slot: slot(0), query: ALL };
    assert!(matches!(client.logs(&wanted).await, Err(Error::NotFound { .. })));
    let ghost = world.ghost("127.0.0.1:1");
    let wanted = LogsRequest { node: ghost, slot: slot(0), query: ALL };
    assert!(matches!(client.logs(&wanted).await, Err(Error::Unreachable { .. })));
}

async fn run(client: &OperatorClient, node: NodeId) -> Vec<ExecOutput> {
    let (stdin, input) = mpsc::channel(4);
    let wanted = ExecRequest { node, slot: slot(0), exec: command(&["cat", "-"]) };
    let mut output = client.exec(&wanted, input).await.unwrap();
    stdin.send(ExecInput::Data(Bytes::from_static(b"hello"))).await.unwrap();
    let mut items = vec![output.next().await.unwrap().unwrap()];
    stdin.send(ExecInput::Resize(Window { columns: 132, rows: 50 })).await.unwrap();
    items.push(output.next().await.unwrap().unwrap());
    drop(stdin);
    while let Some(item) = output.next().await {
        items.push(item.unwrap());
    }
    items
}

#[tokio::test]
async fn a_command_has_input_output_and_an_exit_code_here_and_elsewhere() {
    let world = World::of(2).await;
    let client = world.connect(&world.operator(100, Role::Deployer)).await;
    for agent in &world.agents {
        agent.control.replicas.lock().unwrap().insert(slot(0), replica("any"));
        let expected = vec![
            ExecOutput::Data(Output::Stdout, Bytes::from_static(b"hello")),
            ExecOutput::Data(Output::Stdout, Bytes::from_static(b"[132x50]")),
            ExecOutput::Data(Output::Stderr, Bytes::from_static(b"cat -")),
            ExecOutput::Exited(7),
        ];
        assert_eq!(run(&client, agent.id).await, expected);
    }
}

#[tokio::test]
async fn a_command_whose_caller_goes_away_is_killed_here_and_elsewhere() {
    let world = World::of(2).await;
    let client = world.connect(&world.operator(100, Role::Deployer)).await;
    for agent in &world.agents {
        agent.control.replicas.lock().unwrap().insert(slot(0), replica("any"));
        let (_stdin, input) = mpsc::channel(4);
        let wanted = ExecRequest { node: agent.id, slot: slot(0), exec: command(&["cat"]) };
        let output = client.exec(&wanted, input).await.unwrap();
        assert_eq!(*agent.runtime.running.lock().unwrap(), 1);
        drop(output);
        eventually(|| *agent.runtime.running.lock().unwrap() == 0).await;
    }
}

#[tokio::test]
async fn a_fault_of_the_host_gets_a_number_to_ask_about() {
    let world = World::of(1).await;
    let client = world.connect(&world.operator(100, Role::Deployer)).await;
    world.agents[0].control.replicas.lock().unwrap().insert(slot(0), replica("any"));
    let (_stdin, input) = mpsc::channel(4);
    let node = world.agents[0].id;
    let wanted = ExecRequest { node, slot: slot(0), exec: command(&["fail"]) };
    let error = client.exec(&wanted, input).await.unwrap_err();
    let Error::Server { reason } = error else { panic!("{error:?}") };
    assert!(reason.contains("cannot run the command (see the log of this agent for "), "{reason}");
}

#[tokio::test]
async fn a_pushed_image_is_on_another_node_before_the_answer() {
    let world = World::of(3).await;
    let client = world.connect(&world.operator(100, Role::Deployer)).await;
    let archive = vec![9_u8; 1_000_000];
    let pushed = client.push_image(std::io::Cursor::new(archive.clone())).await.unwrap();
    let digest = digest_of(&archive);
    assert_eq!(pushed.images.iter().map(|image| &image.digest).collect::<Vec<_>>(), [&digest]);
    assert_eq!((pushed.n_peers, pushed.stored_on.len()), (2, 2));
    assert_eq!(pushed.stored_on[0], world.agents[0].id);
    let other = world.agents.iter().find(|agent| agent.id == pushed.stored_on[1]).unwrap();
    assert_eq!(other.images.0.lock().unwrap().get(&digest).unwrap(), &archive);
    assert_eq!(client.images().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_lone_node_says_that_it_is_alone_and_a_bad_archive_is_refused() {
    let world = World::of(1).await;
    let client = world.connect(&world.operator(100, Role::Deployer)).await;
    let pushed = client.push_image(&b"an archive"[..]).await.unwrap();
    assert_eq!((pushed.n_peers, pushed.stored_on), (0, vec![world.agents[0].id]));
    let refused = client.push_image(&b"no archive"[..]).await;
    assert_eq!(
        refused,
        Err(Error::Invalid { reason: "the image cannot be used: it is no archive".to_owned() })
    );
}

#[tokio::test]
async fn events_of_all_nodes_are_merged_by_time_and_a_dead_node_is_named() {
    let world = World::of(2).await;
    let client = world.connect(&world.operator(100, Role::Viewer)).await;
    // Listens and never answers: the worst kind of dead.
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ghost = world.ghost(&mute.local_addr().unwrap().to_string());
    for (agent, times) in world.agents.iter().zip([[1, 4, 5], [2, 3, 6]]) {
        let past = times.map(|at| event(agent.id, at, "past"));
        agent.control.past.lock().unwrap().extend(past);
    }
    let begun = Instant::now();
    let mut items = client.events(4, true).await.unwrap();
    let Some(Ok(EventsItem::Silent(silent))) = items.next().await else { panic!("who is silent?") };
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!((silent.node, silent.name.as_str()), (ghost, "ghost"));
    for expected in 3..=6 {
        let Some(Ok(EventsItem::Event(event))) = items.next().await else { panic!("{expected}") };
        assert_eq!(event.at.0, expected);
    }
    for agent in world.agents.iter().rev() {
        let follower = agent.control.followers.lock().unwrap()[0].clone();
        // What is already told is not told again.
        let again = agent.control.past.lock().unwrap()[2].clone();
        follower.send(again).await.unwrap();
        follower.send(event(agent.id, 9, "new")).await.unwrap();
        let Some(Ok(EventsItem::Event(new))) = items.next().await else { panic!("a new event") };
        assert_eq!((new.seen_by, new.text.as_str()), (agent.id, "new"));
    }
}

#[tokio::test]
async fn dead_agents_are_tried_over_and_cost_little() {
    let world = World::of(1).await;
    let operator = world.operator(100, Role::Viewer);
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (key, address) = (keys(201).public(), mute.local_addr().unwrap().to_string());
    let refusing = AgentAddress { key, address: "127.0.0.1:1".to_owned() };
    let agents = [refusing.clone(), AgentAddress { key, address }, world.agents[0].as_seen()];
    let begun = Instant::now();
    let timeout = Duration::from_secs(3);
    let client = OperatorClient::connect(&agents, access(&operator), timeout).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(client.agent(), &agents[2]);

    let error =
        OperatorClient::connect(&agents[..2], access(&operator), timeout).await.unwrap_err();
    let Error::Unreachable { tried } = error else { panic!("{error:?}") };
    let expected = [
        (agents[0].address.clone(), "refuses connections".to_owned()),
        (agents[1].address.clone(), "does not answer".to_owned()),
    ];
    assert_eq!(tried, expected);
}

#[tokio::test]
async fn an_agentctl_from_before_there_were_challenges_is_told_that_it_is_older() {
    let world = World::of(1).await;
    let agent = &world.agents[0];
    let operator = world.operator(100, Role::Viewer);
    let request = Request {
        mesh: MESH,
        operator: operator.public(),
        target: agent.id,
        action: convert::request::LOGS.to_owned(),
        slot: Some(slot(0)),
        arguments: convert::request::logs_arguments(&ALL),
        nonce: [1; 16],
        challenge: Challenge::NONE,
    };
    let signed = convert::request::to_wire(request::sign(&operator, &request));
    let mut client = Wire::new(channel(agent, &operator).await);
    let refusal = client.logs(convert::exec::query_to_wire(ALL, signed)).await.unwrap_err();
    assert!(refusal.message().contains("older agentctl"), "{refusal:?}");
    eventually(|| agent.refusals.count(Reason::RequestExpired) == 1).await;
    assert_eq!(agent.refusals.count(Reason::RequestSignature), 0);
}
