//! Leases and parked apps, as people see them at night.

use std::time::Duration;

use insta::assert_snapshot;
use mesh_coordinator::catalogue::{Body, Release};
use mesh_coordinator::id::{AppUid, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::{Configuration, StoreId, Timing, Token, WitnessId};
use mesh_coordinator::view::{Grant, LeaseView, Pursuit, Testimony};

use super::{run, run_at, run_with};
use crate::mesh::fake::{Fake, node};
use crate::mesh::{Known, Mesh as _};

const EXCLUSIVE: &str =
    "name: shop\nservices:\n  db:\n    image: hello:1\n    x-mesh:\n      guarantee: exclusive\n";

/// A mesh on which the exclusive `shop/db` was placed.
async fn with_shop() -> Fake {
    let fake = Fake::new();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), EXCLUSIVE).unwrap();
    let ran = run(&fake, &format!("agentctl place {}", file.path().display())).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    fake
}

fn witness(n: u8) -> WitnessId {
    WitnessId { node: node(n, "any").id, store: StoreId(n.into()) }
}

async fn shop(fake: &Fake) -> AppUid {
    fake.overview().await.unwrap().apps[0].uid
}

fn view(app: AppUid) -> LeaseView {
    LeaseView {
        slot: SlotId { app, service: "db".parse().unwrap(), index: SlotIndex::Number(0) },
        name: "shop/db/0".to_owned(),
        wanted: true,
        reset: 0,
        configuration: Configuration::first([1, 2, 3].map(witness).into(), Timing::DEFAULT_TTL),
        pursuit: None,
        testimony: None,
    }
}

const FREE: Testimony = Testimony {
    vouches: true,
    grant: None,
    ended_ago: Some(Duration::from_secs(180)),
    promised: None,
};

fn granted(millis: u64) -> Testimony {
    let (node, left) = (node(1, "alpha").id, Duration::from_millis(millis));
    Testimony { grant: Some(Grant { node, token: Token(7), left }), ended_ago: None, ..FREE }
}

fn told(n: u8, lease: LeaseView) -> Known {
    Known::Lease { node: node(n, "any").id, lease: Box::new(lease) }
}

fn silent(n: u8, name: &str) -> Known {
    let reason = "does not answer".to_owned();
    Known::Silent { node: node(n, name).id, name: name.to_owned(), reason }
}

/// Alpha holds it, and gamma is silent.
async fn held(fake: &Fake) -> Vec<Known> {
    let left = Duration::from_millis(9_200);
    let pursuit = Some(Pursuit::Holding { token: Token(7), left });
    let view = view(shop(fake).await);
    vec![
        told(1, LeaseView { pursuit, testimony: Some(granted(9_300)), ..view.clone() }),
        told(2, LeaseView { testimony: Some(granted(9_400)), ..view }),
        silent(3, "gamma"),
    ]
}

/// Nobody holds it, and beta seeks it.
async fn free(fake: &Fake) -> Vec<Known> {
    let view = view(shop(fake).await);
    let left = Duration::from_millis(300);
    let pursuit = Some(Pursuit::Waiting { left });
    vec![
        told(1, LeaseView { testimony: Some(FREE), ..view.clone() }),
        told(2, LeaseView { pursuit, testimony: Some(FREE), ..view.clone() }),
        told(3, LeaseView { testimony: Some(FREE), ..view }),
    ]
}

#[tokio::test(start_paused = true)]
async fn leases_show_the_holder_and_what_its_witnesses_say() {
    let fake = with_shop().await;
    fake.leases.replace(held(&fake).await);
    assert_snapshot!(run(&fake, "agentctl leases").await.all());
    let narrow = run_at(&fake, (Some(56), None), "agentctl leases shop").await.out;
    assert!(narrow.lines().all(|line| line.chars().count() <= 56), "{narrow}");
    assert!(narrow.contains("LEFT") && !narrow.contains("TOKEN"), "{narrow}");
    let wide = run_at(&fake, (Some(56), None), "agentctl leases shop -o wide").await;
    assert_eq!(wide.out, run(&fake, "agentctl leases shop").await.out, "as on a pipe");
}

#[tokio::test(start_paused = true)]
async fn leases_as_json() {
    let fake = with_shop().await;
    fake.leases.replace(held(&fake).await);
    assert_snapshot!(run(&fake, "agentctl leases --output json").await.out);
}

#[tokio::test(start_paused = true)]
async fn a_slot_without_a_holder_says_what_is_missing_and_what_to_do() {
    let fake = with_shop().await;
    let view = view(shop(&fake).await);
    let mut shown = String::new();
    let broken = Testimony { vouches: false, ..FREE };
    let one = Testimony { promised: Some(node(2, "beta").id), ..FREE };
    let other = [1, 2, 3].map(|n| WitnessId { store: StoreId(u128::from(n) + 7), ..witness(n) });
    let replaced = Configuration { current: other.into(), ..view.configuration.clone() };
    let alone = Configuration { current: [witness(2)].into(), ..view.configuration.clone() };
    let cases = [
        free(&fake).await,
        vec![told(1, LeaseView { testimony: Some(one), ..view.clone() })],
        vec![
            told(1, LeaseView { testimony: Some(FREE), ..view.clone() }),
            silent(2, "beta"),
            silent(3, "gamma"),
        ],
        vec![
            told(1, LeaseView { testimony: Some(broken), ..view.clone() }),
            told(2, LeaseView { testimony: Some(broken), ..view.clone() }),
        ],
        vec![told(1, LeaseView { configuration: replaced, ..view.clone() })],
        vec![told(1, LeaseView { configuration: alone, ..view.clone() }), silent(2, "beta")],
        vec![
            told(2, LeaseView { testimony: Some(granted(4_000)), ..view.clone() }),
            told(3, LeaseView { testimony: Some(granted(5_000)), ..view.clone() }),
            silent(1, "alpha"),
        ],
    ];
    for case in cases {
        fake.leases.replace(case);
        shown.push_str(&run(&fake, "agentctl leases").await.all());
        shown.push_str("\n\n");
    }
    assert_snapshot!(shown);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_witnesses_is_shown_while_it_lasts() {
    let fake = with_shop().await;
    fake.nodes.borrow_mut().push(node(4, "delta"));
    let mut told = held(&fake).await;
    if let Known::Lease { lease, .. } = &mut told[0] {
        lease.configuration.version = 1;
        lease.configuration.next = Some([1, 2, 4].map(witness).into());
    }
    fake.leases.replace(told);
    assert_snapshot!(run(&fake, "agentctl leases").await.all());
}

#[tokio::test(start_paused = true)]
async fn an_app_without_exclusive_services_has_no_leases() {
    let fake = super::with_hello().await;
    let ran = run(&fake, "agentctl leases hello").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "hello has no exclusive service that runs\n"));
}

#[tokio::test(start_paused = true)]
async fn why_says_who_holds_the_lease_until_when_and_who_is_next() {
    let fake = with_shop().await;
    fake.leases.replace(held(&fake).await);
    assert_snapshot!(run(&fake, "agentctl why shop").await.all());
    let json = run(&fake, "agentctl why shop --output json").await.out;
    assert!(json.contains("\"left_ms\": 9200"), "{json}");
    fake.leases.replace(free(&fake).await);
    let free = run(&fake, "agentctl why shop/db/0").await.out;
    assert!(free.contains("shop/db/0 has no holder, for 3m now"), "{free}");
}

#[tokio::test(start_paused = true)]
async fn ps_shows_the_token_of_what_never_runs_twice() {
    let fake = with_shop().await;
    fake.token.set(Some(7));
    assert_snapshot!(run(&fake, "agentctl ps shop").await.all());
    assert!(run(&fake, "agentctl ps shop -o json").await.out.contains("\"token\": 7"));
}

/// The same name on two sides of a split.
async fn with_parked() -> (Fake, AppUid, AppUid) {
    let fake = with_shop().await;
    let first = fake.last();
    let Body::App(release) = first.body.clone() else { panic!("a release") };
    let parked = AppUid([0xff; 16]);
    let body = Body::App(Release { app: parked, ..release.clone() });
    fake.records.borrow_mut().push(mesh_coordinator::catalogue::Record { body, ..first });
    (fake, release.app, parked)
}

/// As people see it.
fn short(app: AppUid) -> String {
    app.to_string().chars().take(8).collect()
}

#[tokio::test(start_paused = true)]
async fn a_parked_app_is_shown_with_what_to_do_about_it() {
    let (fake, runs, parked) = with_parked().await;
    let mut shown = String::new();
    for line in ["agentctl ps", "agentctl ps shop", "agentctl status", "agentctl why shop"] {
        shown.push_str(&run(&fake, line).await.all());
        shown.push('\n');
    }
    let ran = run(&fake, &format!("agentctl stop {parked}")).await;
    shown.push_str(&ran.all());
    let shown = shown.replace(&short(runs), "RUNNING ");
    assert_snapshot!(shown);
    let json = run(&fake, "agentctl status -o json").await.out;
    assert!(json.contains(&format!("\"uid\": \"{parked}\"")), "{json}");
}

#[tokio::test(start_paused = true)]
async fn rm_takes_a_parked_app_by_its_id_alone_and_by_its_name_with_the_other() {
    let (fake, runs, parked) = with_parked().await;
    let removed = |fake: &Fake| {
        let records = fake.records.borrow();
        let gone = records.iter().filter_map(|record| {
            let Body::AppRemoval { app, .. } = &record.body else { return None };
            Some(*app)
        });
        gone.collect::<Vec<_>>()
    };
    let ran = run(&fake, &format!("agentctl rm -y {}", &short(parked))).await;
    assert_eq!((ran.code, removed(&fake)), (0, vec![parked]), "{}", ran.err);

    let (fake, ..) = with_parked().await;
    let ran = run_with(&fake, Some(true), &format!("agentctl rm {}", &short(runs))).await;
    assert!(ran.err.contains("parked app of that name (ffffffff) runs instead"), "{}", ran.err);
    assert_eq!(removed(&fake), [runs]);

    let (fake, ..) = with_parked().await;
    let ran = run_with(&fake, Some(true), "agentctl rm shop").await;
    assert!(ran.err.contains("So is the parked app of that name (ffffffff)"), "{}", ran.err);
    assert_eq!(removed(&fake), [runs, parked]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_most_witnesses_need_is_not_removed_but_can_be_forgotten() {
    let fake = with_shop().await;
    fake.leases.replace(held(&fake).await);
    let mut shown = run(&fake, "agentctl node rm -y beta").await.all();
    assert!(!matches!(fake.last().body, Body::MemberRemoval { .. }), "nothing was written");
    let ran = run(&fake, "agentctl node rm -y gamma").await;
    assert_eq!(ran.code, 0, "it is silent, and the others are enough: {}", ran.err);

    fake.nodes.borrow_mut()[1].status = mesh_coordinator::view::NodeStatus::Down;
    shown.push_str(&run(&fake, "agentctl node rm -y beta").await.all());
    let ran = run_with(&fake, Some(true), "agentctl node forget beta").await;
    shown.push_str(&ran.all());
    assert!(matches!(fake.last().body, Body::MemberRemoval { destroyed: true, .. }));
    assert_snapshot!(shown);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_only_witnesses_is_shown_as_such_and_is_no_place() {
    let fake = Fake::new();
    {
        let mut nodes = fake.nodes.borrow_mut();
        nodes[1].witness_only = true;
        nodes[2].witness_only = true;
    }
    let mut shown = run(&fake, "agentctl nodes").await.out;
    shown.push_str(&run(&fake, "agentctl status").await.out);
    assert_snapshot!(shown);
    let ran = run(&fake, "agentctl place hello:1 --name hello").await;
    assert!(ran.out.contains("none: one node"), "{}", ran.out);
    assert!(ran.out.contains("no failover: the mesh has one node that holds replicas"));
}
