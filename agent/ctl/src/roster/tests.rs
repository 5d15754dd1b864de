//! Who may witness, what an app may become, and what is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_compose::{Loaded, Source};
use mesh_coordinator::catalogue::{Body, Release};
use mesh_coordinator::id::{AppUid, NodeId};
use mesh_coordinator::lease::exclusive::{StoreId, Timing, WitnessId};
use mesh_coordinator::spec::{AppSpec, Guarantee};
use mesh_coordinator::view::{NodeStatus, NodeView};

use super::Life;
use crate::failure::Failure;
use crate::intent;
use crate::mesh::Mesh as _;
use crate::mesh::fake::{Fake, MESH, node, node_key};

const EXCLUSIVE: Guarantee = Guarantee::Exclusive { ttl: Timing::DEFAULT_TTL };

/// The app `shop`, with services that promise this.
fn spec(services: &[(&str, Guarantee)]) -> AppSpec {
    let names: Vec<String> =
        services.iter().map(|(name, _)| format!("{name}: {{image: 'hello:1'}}")).collect();
    let text = format!("name: shop\nservices: {{{}}}", names.join(", "));
    let Loaded { manifest, .. } =
        mesh_compose::load(&Source::text("compose.yaml", &text), &|_| None).unwrap();
    let digest = |_: &str| Some(format!("sha256:{}", "1a".repeat(32)));
    let mut spec = manifest.resolve(digest, None, |_| 1).unwrap();
    for (name, guarantee) in services {
        spec.services.get_mut(&name.parse().unwrap()).unwrap().guarantee = *guarantee;
    }
    spec
}

fn witness(n: u8) -> WitnessId {
    WitnessId { node: NodeId::of(&node_key(n)), store: StoreId(n.into()) }
}

async fn life(fake: &Fake, spec: &AppSpec) -> Result<Life, Failure> {
    let overview = fake.overview().await.unwrap();
    let releases: BTreeMap<AppUid, Release> = fake
        .records
        .borrow()
        .iter()
        .filter_map(|record| {
            let Body::App(release) = &record.body else { return None };
            Some((release.app, release.clone()))
        })
        .collect();
    let app = overview.apps.iter().find(|app| app.name == spec.name);
    let release = app.and_then(|app| releases.get(&app.uid));
    Life::of(spec, &overview, release, fake).await
}

/// Places the app, as far as records go.
async fn place(fake: &Fake, spec: &AppSpec) -> Life {
    let life = life(fake, spec).await.unwrap();
    let (app, roster) = (life.uid, life.roster.clone());
    let release = Release { app, version: 1, spec: spec.clone(), roster };
    intent::submit(fake, vec![Body::App(release)]).await.unwrap();
    life
}

async fn refused(fake: &Fake, spec: &AppSpec) -> String {
    life(fake, spec).await.unwrap_err().message().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_roster_of_a_new_app_is_who_lives() {
    let fake = Fake::new();
    let old = NodeView { store: None, ..node(4, "delta") };
    let down = NodeView { status: NodeStatus::Down, ..node(5, "epsilon") };
    fake.nodes.borrow_mut().extend([old, down]);
    let life = place(&fake, &spec(&[("db", EXCLUSIVE), ("web", Guarantee::Available)])).await;
    assert_eq!(life.roster, BTreeSet::from([1, 2, 3].map(witness)));
    assert_eq!(life.uid, AppUid::with_roster(MESH, &"shop".parse().unwrap(), 0, &life.roster));
    assert_eq!(life.warnings, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_app_without_exclusive_services_has_no_roster() {
    let life = place(&Fake::new(), &spec(&[("web", Guarantee::Available)])).await;
    assert_eq!(life.uid, AppUid::of(MESH, &"shop".parse().unwrap(), 0));
    assert!(life.roster.is_empty() && life.warnings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_app_keeps_the_roster_that_it_was_made_with() {
    let fake = Fake::new();
    let first = place(&fake, &spec(&[("db", EXCLUSIVE)])).await;
    fake.nodes.borrow_mut().push(node(4, "delta"));
    fake.nodes.borrow_mut()[0].status = NodeStatus::Down;
    let more = spec(&[("db", EXCLUSIVE), ("cron", EXCLUSIVE), ("web", Guarantee::Available)]);
    let second = life(&fake, &more).await.unwrap();
    assert_eq!((second.uid, second.roster), (first.uid, first.roster));
    // Also when none of its services is exclusive any more.
    let roster = life(&fake, &spec(&[("web", Guarantee::Available)])).await.unwrap().roster;
    assert_eq!(roster.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_drained_witness_only_where_there_are_too_few_others() {
    let drained = |n| NodeView { drained: true, ..node(n, "delta") };
    let fake = Fake::new();
    let mut overview = fake.overview().await.unwrap();
    overview.nodes.push(drained(4));
    let name = "shop".parse().unwrap();
    assert_eq!(super::choose(&name, &overview), Ok([1, 2, 3].map(witness).into()));
    overview.nodes.remove(0);
    assert_eq!(super::choose(&name, &overview), Ok([2, 3, 4].map(witness).into()));
}

#[tokio::test(start_paused = true)]
async fn of_very_many_nodes_each_app_takes_others() {
    let mut overview = Fake::new().overview().await.unwrap();
    overview.nodes = (1..=200).map(|n| node(n, "alpha")).collect();
    let [one, other] =
        ["shop", "blog"].map(|name| super::choose(&name.parse().unwrap(), &overview).unwrap());
    assert_eq!((one.len(), other.len()), (64, 64));
    assert_ne!(one, other);
}

#[tokio::test(start_paused = true)]
async fn too_few_witnesses_are_named_with_what_that_means() {
    let fake = Fake::new();
    fake.nodes.borrow_mut().truncate(2);
    let words = life(&fake, &spec(&[("db", EXCLUSIVE)])).await.unwrap().warnings.concat();
    assert!(words.starts_with("exclusive services need "), "{words}");
    assert!(words.contains("alpha") && words.contains("beta"), "{words}");
    fake.nodes.borrow_mut().truncate(1);
    let words = life(&fake, &spec(&[("db", EXCLUSIVE)])).await.unwrap().warnings.concat();
    assert!(words.starts_with("no failover of exclusive services: alpha"), "{words}");
    fake.nodes.borrow_mut()[0].store = None;
    let words = refused(&fake, &spec(&[("db", EXCLUSIVE)])).await;
    assert!(words.contains("their agents are too old"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_guarantee_never_changes_within_one_life() {
    let fake = Fake::new();
    place(&fake, &spec(&[("db", EXCLUSIVE), ("web", Guarantee::Available)])).await;
    let longer = Guarantee::Exclusive { ttl: Duration::from_secs(30) };
    let cases = [
        ("db", Guarantee::Available, "exclusive with a lease of 12 s and cannot become available"),
        ("db", longer, "lease of 12 s and cannot become exclusive with a lease of 30 s"),
        ("web", EXCLUSIVE, "shop/web is available and cannot become exclusive"),
    ];
    for (name, guarantee, words) in cases {
        let found = refused(&fake, &spec(&[(name, guarantee)])).await;
        assert!(found.contains(words), "{found}");
        assert!(found.contains("next: agentctl rm shop, and place it again"), "{found}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_that_was_made_without_witnesses_gets_no_exclusive_service() {
    let fake = Fake::new();
    place(&fake, &spec(&[("web", Guarantee::Available)])).await;
    let found = refused(&fake, &spec(&[("web", Guarantee::Available), ("db", EXCLUSIVE)])).await;
    assert!(found.contains("shop/db cannot be exclusive"), "{found}");
    assert!(found.contains("next: make db an app of its own, or agentctl rm shop"), "{found}");
}
