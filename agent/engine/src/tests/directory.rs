//! Who is who.

use mesh_coordinator::catalogue::{Body, Catalogue, NodeAddress, Operator, OperatorRemoval, Role};
use mesh_coordinator::id::{NodeId, PublicKey};
use mesh_ports::directory::{Directory, Standing};

use super::world::Plan;
use crate::directory::Live;

const DEPLOYER: PublicKey = PublicKey([4; 32]);

#[test]
fn everybody_stands_where_the_catalogue_says() {
    let (mut plan, peer) = Plan::new().with_peer();
    let peer_key = PublicKey([3; 32]);
    let me = NodeId::of(&plan.me);
    let mut catalogue = Catalogue::new(plan.author.mesh);
    catalogue.extend(plan.records.clone());
    let live = Live::new(plan.author.mesh, me, catalogue.state());
    let mut changes = live.changes();
    changes.mark_unchanged();
    assert_eq!(live.standing(&plan.me), Standing::Member(me));
    assert_eq!(live.standing(&peer_key), Standing::Member(peer));
    assert_eq!(live.standing(&plan.author.key), Standing::Operator(Role::Admin));
    assert_eq!(live.standing(&DEPLOYER), Standing::Unknown);
    let recovery = catalogue.state().recovery.expect("the genesis record names one");
    assert_eq!(live.standing(&recovery), Standing::Recovery);
    let name = "dora".parse().unwrap();
    let operator = Operator { key: DEPLOYER, name, role: Role::Deployer, keep: Vec::new() };
    let address =
        NodeAddress { node: peer, api: vec!["beta:7".to_owned()], gossip: "beta:8".to_owned() };
    catalogue.insert(plan.author.write(Body::Operator(operator)));
    catalogue.insert(plan.author.write(Body::Address(address)));
    live.update(catalogue.state());
    assert!(changes.has_changed().unwrap());
    assert_eq!(live.standing(&DEPLOYER), Standing::Operator(Role::Deployer));
    let removal = OperatorRemoval { key: DEPLOYER, keep: Vec::new() };
    catalogue.insert(plan.author.write(Body::OperatorRemoval(removal)));
    catalogue.insert(plan.author.write(Body::MemberRemoval {
        node: peer,
        destroyed: false,
        keep: Vec::new(),
    }));
    live.update(catalogue.state());
    assert_eq!(live.standing(&DEPLOYER), Standing::Removed);
    assert_eq!(live.standing(&peer_key), Standing::Parted(NodeId::of(&peer_key)));
    assert_eq!((live.peer(peer), live.peers().len()), (None, 0));
}

#[test]
fn this_node_is_no_peer_of_its_own() {
    let (plan, peer) = Plan::new().with_peer();
    let me = NodeId::of(&plan.me);
    let mut catalogue = Catalogue::new(plan.author.mesh);
    catalogue.extend(plan.records);
    let live = Live::new(plan.author.mesh, me, catalogue.state());
    let peers: Vec<NodeId> = live.peers().iter().map(|peer| peer.node).collect();
    assert_eq!(peers, [peer]);
    assert_eq!(live.peer(me).unwrap().name.as_str(), "alpha");
    assert!(live.peer(peer).unwrap().api.is_empty(), "nobody has said yet where it is");
}
