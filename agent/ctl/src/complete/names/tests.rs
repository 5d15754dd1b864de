//! What is offered for a word, given what there is.

use clap::Parser as _;
use mesh_coordinator::view::{NodeStatus, Overview};

use super::{Candidate, Kind, Which, of_overview};
use crate::cli::Cli;
use crate::command::on_mesh;
use crate::mesh::Mesh as _;
use crate::mesh::fake::Fake;
use crate::ui::capture::Captured;

async fn run(fake: &Fake, line: &str) {
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let mut ui = Captured::default().ui(cli.global.output, None);
    let done = on_mesh(fake, &mut ui, cli.command).await;
    done.unwrap_or_else(|failure| panic!("{line}: {:?}", failure.message()));
}

/// One app with one service of two replicas.
async fn one_app() -> Fake {
    let fake = Fake::new();
    run(&fake, "agentctl place hello:1 --name hello --replicas 2").await;
    fake
}

/// That, and an app with two services, of which one runs on every node.
async fn two_apps() -> Fake {
    let fake = one_app().await;
    let folder = tempfile::tempdir().unwrap();
    let manifest = "services:\n  api:\n    image: hello:1\n  probe:\n    image: hello:1\n    deploy:\n      mode: global\n";
    let file = folder.path().join("compose.yaml");
    std::fs::write(&file, manifest).unwrap();
    run(&fake, &format!("agentctl place {} --name helios", file.display())).await;
    fake
}

fn values(kind: Kind, overview: &Overview, current: &str) -> Vec<String> {
    let found = of_overview(kind, overview, current, None);
    found.into_iter().map(|candidate| candidate.value).collect()
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_named_part_by_part() {
    let overview = two_apps().await.overview().await.unwrap();
    let slot = |current| values(Kind::Slot, &overview, current);
    assert_eq!(slot(""), ["helios/", "hello/"]);
    assert_eq!(slot("heli"), ["helios/api/", "helios/probe/"]);
    assert_eq!(slot("hell"), ["hello/hello/0", "hello/hello/1"], "there is no choice before");
    assert_eq!(slot("helios/p"), ["helios/probe/alpha", "helios/probe/beta", "helios/probe/gamma"]);
    assert_eq!(slot("hello/hello/1"), ["hello/hello/1"]);
    assert_eq!(slot("other/"), Vec::<String>::new());
    assert_eq!(slot("a/b/c/d"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn where_an_app_will_do_its_parts_are_offered_when_it_is_the_only_one() {
    let overview = two_apps().await.overview().await.unwrap();
    let service = |current| values(Kind::Service, &overview, current);
    assert_eq!(service(""), ["helios", "hello"]);
    assert_eq!(service("heli"), ["helios", "helios/api", "helios/probe"]);
    assert_eq!(service("hell"), ["hello"], "its one service is the same");
    assert_eq!(service("helios/a"), ["helios/api"]);
    let replicas = |current| values(Kind::Replicas, &overview, current);
    assert_eq!(replicas("hell"), ["hello", "hello/hello/0", "hello/hello/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_is_scaled_by_its_own_name_where_that_is_clear() {
    let one = one_app().await.overview().await.unwrap();
    let now = Candidate { value: "hello=".to_owned(), help: "now 2".to_owned() };
    assert_eq!(of_overview(Kind::Scale, &one, "", None), [now]);
    assert_eq!(values(Kind::Scale, &one, "hello/"), ["hello/hello="]);
    assert_eq!(
        values(Kind::Scale, &one, "hello="),
        Vec::<String>::new(),
        "nobody knows the number"
    );

    let two = two_apps().await.overview().await.unwrap();
    assert_eq!(values(Kind::Scale, &two, ""), ["helios/", "hello/"]);
    assert_eq!(
        values(Kind::Scale, &two, "heli"),
        ["helios/api="],
        "one on every node has no number"
    );
    let of_helios = of_overview(Kind::Scale, &two, "a", Some("helios"));
    assert_eq!(of_helios.first().map(|it| it.value.as_str()), Some("api="));
    assert_eq!(values(Kind::Scale, &two, "helios/api=3"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn only_what_a_command_has_an_effect_on_is_offered() {
    let fake = two_apps().await;
    run(&fake, "agentctl stop hello").await;
    run(&fake, "agentctl drain beta").await;
    fake.nodes.borrow_mut()[2].status = NodeStatus::Down;
    let overview = fake.overview().await.unwrap();
    let app = |which| values(Kind::App(which), &overview, "");
    assert_eq!(app(Which::All), ["helios", "hello"]);
    assert_eq!(app(Which::Active), ["helios"]);
    assert_eq!(app(Which::Inactive), ["hello"]);
    let node = |which| values(Kind::Node(which), &overview, "");
    assert_eq!(node(Which::Active), ["alpha", "gamma"]);
    assert_eq!(node(Which::Inactive), ["beta"]);
    let all = of_overview(Kind::Node(Which::All), &overview, "", None);
    let help: Vec<&str> = all.iter().map(|node| node.help.as_str()).collect();
    assert_eq!(help, ["0 replicas", "0 replicas, drained", "down"]);
}

#[tokio::test(start_paused = true)]
async fn labels_are_offered_once_each() {
    let fake = Fake::new();
    for node in fake.nodes.borrow_mut().iter_mut() {
        node.labels.insert("disk".parse().unwrap(), "ssd".to_owned());
    }
    let overview = fake.overview().await.unwrap();
    assert_eq!(values(Kind::Label, &overview, ""), ["disk-", "disk=ssd"]);
}
