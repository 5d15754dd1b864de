//! Attaching, restarting, sweeping, mending and closing.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use mesh_coordinator::spec::Protocol;
use mesh_ports::network::{AttachError, ContainerNetwork};
use nlink::netlink::nftables::{BaseChain, Chain, Family, FilterHook, Policy, Priority};

use super::super::{Bridge, Config, Finding, firewall, link, namespace};
use super::{ARRIVES, DOES_NOT, ELSEWHERE, HOST, Host, connects, on_a_host, pings, port, run};

#[test]
fn attaching_again_keeps_the_address_and_a_port_in_use_is_refused() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        assert_eq!(host.attach(&bridge, "a", &[]).await, a);
        let with_port = [port(8080, 80, Protocol::Tcp)];
        assert_eq!(host.attach(&bridge, "a", &with_port).await, a, "also with other ports");
        let _server = host.listen("a", 80);
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        let refused = bridge.attach("b", &host.path("b"), &with_port).await;
        assert!(matches!(refused, Err(AttachError::Interface { .. })), "{refused:?}");
        assert!(!host.path("b").exists());
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)), "a should not suffer");
    });
}

#[test]
fn what_was_cut_off_is_connected_anew_under_its_address() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let with_port = [port(8080, 80, Protocol::Tcp)];
        let a = host.attach(&bridge, "a", &with_port).await;
        host.in_namespace("a", |handle| async move {
            let down = rtnetlink::LinkUnspec::new_with_name("eth0").down().build();
            handle.link().set(down).execute().await.unwrap();
        });
        bridge.refresh().await.unwrap();
        let cut = host.listen("a", 80);
        assert!(!host.inside("outside", || connects((HOST, 8080), DOES_NOT)), "it stays cut off");
        assert_eq!(host.attach(&bridge, "a", &with_port).await, a);
        drop(cut);
        let _server = host.listen("a", 80);
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
    });
}

#[test]
fn many_at_once_get_an_address_each_until_none_is_left() {
    on_a_host(|| async {
        let host = Host::new().await;
        let config = Config { range: "10.210.0.9/28".parse().unwrap(), ..host.config.clone() };
        let bridge = Bridge::open(config).await.unwrap();
        let names: Vec<String> = (0..14).map(|number| format!("c{number}")).collect();
        let attached =
            names.iter().map(async |name| bridge.attach(name, &host.path(name), &[]).await);
        let attached = futures_util::future::join_all(attached).await;
        let (addresses, refused): (Vec<_>, Vec<_>) = attached.into_iter().partition(Result::is_ok);
        let addresses: BTreeSet<Ipv4Addr> = addresses.into_iter().map(Result::unwrap).collect();
        let expected = (2..=14).map(|last| Ipv4Addr::new(10, 210, 0, last));
        assert!(addresses.into_iter().eq(expected));
        assert!(matches!(refused.as_slice(), [Err(AttachError::Exhausted { .. })]), "{refused:?}");
    });
}

#[test]
fn a_restarted_agent_finds_its_containers_and_sweeps_the_dead() {
    on_a_host(|| async {
        let host = Host::new().await;
        let ports = |host| [port(host, 80, Protocol::Tcp)];
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &ports(8080)).await;
        host.attach(&bridge, "b", &ports(8081)).await;
        drop(bridge);
        let bridge = host.bridge().await;
        bridge.adopt("a", a).await;
        let next = Ipv4Addr::new(10, 210, 0, 4);
        assert_eq!(host.attach(&bridge, "c", &[]).await, next, "no address twice");
        bridge.sweep(&["a".to_owned(), "c".to_owned()]).await;
        assert!(!host.path("b").exists() && namespace::is_mounted(&host.path("a")));
        let _server = host.listen("a", 80);
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8081)).expect("b's port should be free"));
        let held = async {
            // The thread of the earlier life gives the port back when it ends.
            while TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).is_ok() {
                bridge.refresh().await.unwrap();
            }
        };
        tokio::time::timeout(ARRIVES, held).await.expect("a's port should be held");
        bridge.sweep(&[]).await;
        assert!(!host.path("a").exists());
    });
}

#[test]
fn a_container_that_is_attached_with_other_ports_has_only_those() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let tcp = |host| port(host, 80, Protocol::Tcp);
        host.attach(&bridge, "a", &[tcp(8080), tcp(8081)]).await;
        let _server = host.listen("a", 80);
        host.attach(&bridge, "a", &[tcp(8081), tcp(8082)]).await;
        for (number, open) in [(8080, false), (8081, true), (8082, true)] {
            let within = if open { ARRIVES } else { DOES_NOT };
            let reached = host.inside("outside", || connects((HOST, number), within));
            assert_eq!(reached, open, "{number}");
            let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok();
            assert_eq!(free, !open, "{number}");
        }
    });
}

#[test]
fn a_host_port_that_another_program_took_meanwhile_is_reported() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        drop(bridge);
        let bound = async {
            // The thread of the earlier life gives the port back when it ends.
            loop {
                if let Ok(bound) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)) {
                    return bound;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let squatter = tokio::time::timeout(ARRIVES, bound).await.unwrap();
        let bridge = host.bridge().await;
        let reported = Finding::HostPort { container: "a".to_owned(), port: "8080/tcp".to_owned() };
        assert!(bridge.findings().await.contains(&reported));
        drop(squatter);
        bridge.refresh().await.unwrap();
        assert!(!bridge.findings().await.contains(&reported), "once it is free it is taken");
    });
}

#[test]
fn a_lost_state_directory_is_made_good_by_adoption_and_sweep() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        host.attach(&bridge, "b", &[]).await;
        drop(bridge);
        std::fs::remove_dir_all(&host.config.state_dir).unwrap();
        let bridge = host.bridge().await;
        bridge.adopt("a", a).await;
        bridge.sweep(&["a".to_owned()]).await;
        assert!(host.inside("a", || pings(Ipv4Addr::new(10, 210, 0, 1))));
        assert!(!host.inside("b", || {
            run(link::session(async |handle| link::find(handle, "eth0").await)).unwrap().is_some()
        }));
        bridge.detach("a", &host.path("a")).await;
        assert!(!host.path("a").exists());
    });
}

#[test]
fn rules_come_back_after_somebody_flushed_them() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        let (_inner, _outer) = (host.listen("a", 80), host.listen("outside", 80));
        firewall::open().unwrap().flush_ruleset().await.unwrap();
        bridge.refresh().await.unwrap();
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        assert!(host.inside("a", || connects((ELSEWHERE, 80), ARRIVES)));
    });
}

#[test]
fn a_bridge_that_somebody_removed_comes_back_with_its_ports() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        host.attach(&bridge, "b", &[]).await;
        link::session(async |handle| link::remove(handle, "mesh0").await).await.unwrap();
        assert!(!host.inside("b", || connects((a, 80), DOES_NOT)));
        bridge.refresh().await.unwrap();
        let _server = host.listen("a", 80);
        assert!(host.inside("b", || connects((a, 80), ARRIVES)));
        drop(bridge);
        link::session(async |handle| link::remove(handle, "mesh0").await).await.unwrap();
        let _bridge = host.bridge().await;
        assert!(host.inside("b", || connects((a, 80), ARRIVES)), "also while no agent runs");
    });
}

#[test]
fn a_range_that_the_host_lives_in_is_refused() {
    on_a_host(|| async {
        let host = Host::new().await;
        for range in ["192.0.2.0/24", "192.0.0.0/16", "192.0.2.128/25"] {
            let config = Config { range: range.parse().unwrap(), ..host.config.clone() };
            assert!(Bridge::open(config).await.is_err(), "{range}");
        }
        let found = link::session(async |handle| link::find(handle, "mesh0").await).await;
        assert_eq!(found.unwrap(), None, "nothing should be made");
    });
}

#[test]
fn closing_leaves_nothing() {
    on_a_host(|| async {
        let host = Host::new().await;
        let links = || async {
            link::session(async |handle| {
                let links = handle.link().get().execute();
                let links: Vec<_> = links.try_collect().await.unwrap();
                Ok(links.len())
            })
            .await
            .unwrap()
        };
        let before = links().await;
        let bridge = host.bridge().await;
        for name in ["a", "b", "c"] {
            host.attach(&bridge, name, &[]).await;
        }
        assert_eq!(links().await, before + 4);
        bridge.close().await.unwrap();
        assert_eq!(links().await, before);
        assert!(!host.config.state_dir.exists());
        assert!(["a", "b", "c"].iter().all(|name| !host.path(name).exists()));
        let rules = firewall::open().unwrap();
        assert!(rules.list_tables().await.unwrap().iter().all(|table| table.name != "mesh0"));
        assert!(bridge.attach("d", &host.path("d"), &[]).await.is_err(), "a closed bridge refuses");
    });
}

#[test]
fn what_the_agent_cannot_mend_is_reported() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        assert_eq!(bridge.findings().await, [Finding::ForwardingTurnedOn]);
        let rules = firewall::open().unwrap();
        let drops = |hook| BaseChain::filter(hook, Priority::Filter).policy(Policy::Drop);
        let chain = |name, base| Chain::new("own", name).unwrap().family(Family::Inet).base(base);
        let batch = rules.transaction().add_table("own", Family::Inet);
        let batch = batch.add_chain(chain("forward", drops(FilterHook::Forward)));
        batch.add_chain(chain("input", drops(FilterHook::Input))).commit(&rules).await.unwrap();
        let findings = bridge.findings().await;
        let table = || "inet own".to_owned();
        for expected in [
            Finding::ForwardDrop { table: table(), chain: "forward".to_owned() },
            Finding::InputDrop { table: table(), chain: "input".to_owned() },
        ] {
            assert!(findings.contains(&expected), "{findings:?}");
        }
    });
}

#[test]
fn a_name_or_range_that_cannot_work_is_refused() {
    let config = |name: &str, range: &str| Config {
        name: name.to_owned(),
        range: range.parse().unwrap(),
        state_dir: Path::new("/nowhere").to_owned(),
    };
    for (name, range) in [
        ("", "10.0.0.0/16"),
        ("a/b", "10.0.0.0/16"),
        ("longer-than-15-c", "10.0.0.0/16"),
        ("mesh0", "10.0.0.0/31"),
    ] {
        assert!(run(Bridge::open(config(name, range))).is_err(), "{name} {range}");
    }
}
