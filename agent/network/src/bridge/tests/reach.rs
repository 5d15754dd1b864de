//! Who reaches whom, and how it looks to the other side.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use futures_util::TryStreamExt as _;
use mesh_coordinator::spec::Protocol;
use mesh_ports::network::ContainerNetwork;
use rtnetlink::RouteMessageBuilder;

use super::super::sysctl;
use super::{
    ARRIVES, DOES_NOT, ELSEWHERE, HOST, Host, call_iptables_for_bridged_frames, connects,
    drop_by_default, iptables_still_understands, on_a_host, our_rules, peer_of, pings, port,
};

#[test]
fn containers_reach_each_other_and_the_host() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        let b = host.attach(&bridge, "b", &[]).await;
        assert_eq!([a, b], [Ipv4Addr::new(10, 210, 0, 2), Ipv4Addr::new(10, 210, 0, 3)]);
        assert!(host.inside("a", || pings(b)), "a should reach b");
        assert!(
            host.inside("b", || pings(Ipv4Addr::new(10, 210, 0, 1))),
            "b should reach the host"
        );
        assert!(host.inside("b", || pings(Ipv4Addr::LOCALHOST)), "loopback should be up");
        let server = host.listen("a", 80);
        assert!(host.inside("b", || connects((a, 80), ARRIVES)));
        assert_eq!(peer_of(&server), IpAddr::V4(b), "an address within the range stays as it is");
        assert!(connects((a, 80), ARRIVES), "the host should reach a container");
    });
}

#[test]
fn traffic_outwards_looks_like_the_host() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[]).await;
        let server = host.listen("outside", 80);
        assert!(host.inside("a", || connects((ELSEWHERE, 80), ARRIVES)));
        assert_eq!(peer_of(&server), IpAddr::V4(HOST));
    });
}

#[test]
fn a_container_is_not_reachable_from_outside_unless_asked_for() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        let _server = host.listen("a", 80);
        host.in_namespace("outside", |handle| async move {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(Ipv4Addr::new(10, 210, 0, 0), 16)
                .gateway(HOST);
            handle.route().add(route.build()).execute().await.unwrap();
        });
        assert!(!host.inside("outside", || connects((a, 80), DOES_NOT)));
    });
}

#[test]
fn traffic_passes_where_docker_drops_by_default() {
    on_a_host(|| async {
        let host = Host::new().await;
        drop_by_default(true).await;
        call_iptables_for_bridged_frames();
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        host.attach(&bridge, "b", &[]).await;
        let (inner, outer) = (host.listen("a", 80), host.listen("outside", 80));
        assert!(host.inside("b", || connects((ELSEWHERE, 80), ARRIVES)));
        assert_eq!(peer_of(&outer), IpAddr::V4(HOST));
        assert!(host.inside("b", || connects((a, 80), ARRIVES)));
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        drop(inner);
        assert_eq!(our_rules("DOCKER-USER").await, 2);
        bridge.refresh().await.unwrap();
        assert_eq!(our_rules("DOCKER-USER").await, 2, "a second time adds nothing");
        iptables_still_understands("DOCKER-USER");
        bridge.close().await.unwrap();
        assert_eq!(our_rules("DOCKER-USER").await, 0);
    });
}

#[test]
fn traffic_passes_where_ufw_drops_by_default_even_when_it_comes_later() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[]).await;
        let _server = host.listen("outside", 80);
        drop_by_default(false).await;
        assert!(!host.inside("a", || connects((ELSEWHERE, 80), DOES_NOT)), "the drop should work");
        bridge.refresh().await.unwrap();
        assert!(host.inside("a", || connects((ELSEWHERE, 80), ARRIVES)));
        assert_eq!(our_rules("FORWARD").await, 2);
    });
}

#[test]
fn bridged_frames_that_pass_the_rules_keep_their_addresses() {
    on_a_host(|| async {
        let host = Host::new().await;
        drop_by_default(false).await;
        let bridge = host.bridge().await;
        if !call_iptables_for_bridged_frames() {
            return;
        }
        let a = host.attach(&bridge, "a", &[]).await;
        let b = host.attach(&bridge, "b", &[]).await;
        let server = host.listen("a", 80);
        assert!(host.inside("b", || connects((a, 80), ARRIVES) && pings(a)));
        assert_eq!(peer_of(&server), IpAddr::V4(b));
    });
}

#[test]
fn a_host_port_leads_to_its_container_from_everywhere() {
    on_a_host(|| async {
        let host = Host::new().await;
        call_iptables_for_bridged_frames();
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        host.attach(&bridge, "b", &[]).await;
        let server = host.listen("a", 80);
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        assert_eq!(peer_of(&server), IpAddr::V4(ELSEWHERE), "the container sees its real client");
        assert!(connects((Ipv4Addr::LOCALHOST, 8080), ARRIVES), "by loopback");
        assert!(connects((HOST, 8080), ARRIVES), "from the host itself");
        assert!(host.inside("b", || connects((HOST, 8080), ARRIVES)), "from another container");
        assert!(host.inside("a", || connects((HOST, 8080), ARRIVES)), "from the container itself");
        bridge.detach("a", &host.path("a")).await;
        assert!(!host.inside("outside", || connects((HOST, 8080), DOES_NOT)));
        drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).expect("the port should be free"));
    });
}

#[test]
fn a_datagram_port_leads_to_its_container_and_to_its_successor() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let client = host.receive("outside", 5000);
        for (round, name) in ["a", "b"].into_iter().enumerate() {
            host.attach(&bridge, name, &[port(5353, 53, Protocol::Udp)]).await;
            let server = host.receive(name, 53);
            client.send_to(&[u8::try_from(round).unwrap()], (HOST, 5353)).unwrap();
            let (n, from) = server.recv_from(&mut [0; 8]).expect(name);
            assert_eq!((n, from.ip()), (1, IpAddr::V4(ELSEWHERE)));
            server.send_to(b"answer", from).unwrap();
            let (_, from) = client.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(from, SocketAddr::from((HOST, 5353)));
            let local = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            local.send_to(b"x", (Ipv4Addr::LOCALHOST, 5353)).unwrap();
            server.recv_from(&mut [0; 8]).expect("by loopback");
            bridge.detach(name, &host.path(name)).await;
        }
    });
}

#[test]
fn containers_cannot_reach_loopback_services_of_the_host() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        let service = UdpSocket::bind((Ipv4Addr::LOCALHOST, 9999)).unwrap();
        service.set_read_timeout(Some(DOES_NOT)).unwrap();
        // A route and a setting that only a container with far too many rights could make.
        host.in_namespace("a", |handle| async move {
            sysctl::ensure("net/ipv4/conf/all/route_localnet", "1").unwrap();
            let own = handle.address().get().set_address_filter(Ipv4Addr::LOCALHOST.into());
            let own: Vec<_> = own.execute().try_collect().await.unwrap();
            for address in own {
                handle.address().del(address).execute().await.unwrap();
            }
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(Ipv4Addr::new(127, 0, 0, 0), 8)
                .gateway(Ipv4Addr::new(10, 210, 0, 1));
            handle.route().add(route.build()).execute().await.unwrap();
        });
        host.inside("a", || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.send_to(b"x", (Ipv4Addr::LOCALHOST, 9999)).unwrap();
        });
        let error = service.recv_from(&mut [0; 8]).expect_err("nothing should arrive");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}
