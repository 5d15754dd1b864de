//! `agent init`: a new mesh, with this node as its first member.

use anyhow::Context;
use mesh_coordinator::catalogue::{Body, Entry, Genesis, Member, Record, Stamp};
use mesh_coordinator::id::{Hash, MeshId};
use mesh_coordinator::time::WallTime;
use mesh_engine::Clock;
use mesh_identity::keys::{KeyPair, NodeIdentity};
use mesh_identity::operator::{self, Contexts, KnownAgent};
use mesh_identity::{record, recovery, request};
use mesh_ports::directory::Signer;
use mesh_ports::store::Store;
use mesh_store::SledStore;

use crate::address;
use crate::cli::Init;
use crate::config::Config;
use crate::home::{Home, Membership, host_name};

/// Creates a mesh.
pub(crate) fn init(config: &Config, init: &Init) -> anyhow::Result<()> {
    let home = Home::new(&config.data_dir);
    home.prepare()?;
    let now = Clock::new(config.wall_clock_offset_ms).wall();
    let root = KeyPair::generate().context("cannot make the root key")?;
    let recovery = KeyPair::generate().context("cannot make the recovery key")?;
    let identity = NodeIdentity::new(home.make_key()?);
    let name = init.node_name.clone().unwrap_or_else(|| host_name(identity.node()));
    let advertised = address::advertised(config, init.advertise.as_deref())?;

    let genesis = genesis(init, &root, &recovery, now)?;
    let mesh = MeshId(genesis.hash);
    let member =
        Member { key: identity.key(), name: name.clone(), invitation: None, invited: None };
    let member = record::sign(&by_root(&root, mesh, now, Body::Member(member)), &root)
        .context("cannot sign")?;
    let address = address::record(&identity, mesh, &advertised, None, now)?;

    let store = SledStore::open(&home.store()).context("cannot open the store")?;
    store
        .commit(mesh_engine::records::put(&[genesis, member, address]))
        .context("cannot store the mesh's birth")?;
    drop(store);
    let contexts = save_operator(init, mesh, root, &identity, &advertised)?;
    home.save_membership(&Membership {
        mesh,
        name: name.clone(),
        advertise: init.advertise.clone(),
        witness_only: false,
    })?;
    announce(init, &name.to_string(), &advertised, &contexts, &recovery);
    Ok(())
}

fn genesis(
    init: &Init,
    root: &KeyPair,
    recovery: &KeyPair,
    now: WallTime,
) -> anyhow::Result<Entry> {
    let genesis = Genesis {
        name: init.name.clone(),
        root: root.public(),
        root_name: init.operator.clone(),
        recovery: recovery.public(),
        nonce: request::nonce().context("cannot draw a random number")?,
    };
    let unnamed = MeshId(Hash([0; 32]));
    record::sign(&by_root(root, unnamed, now, Body::Genesis(genesis)), root)
        .context("cannot sign the genesis record")
}

fn by_root(root: &KeyPair, mesh: MeshId, now: WallTime, body: Body) -> Record {
    Record {
        mesh,
        stamp: Stamp { generation: 1, written: now, tie: 0 },
        parent: None,
        author: root.public(),
        body,
    }
}

/// The root's private half goes to the operator and not into the agent's data directory: whoever steals the server does not
/// get it.
fn save_operator(
    init: &Init,
    mesh: MeshId,
    root: KeyPair,
    identity: &NodeIdentity,
    advertised: &str,
) -> anyhow::Result<std::path::PathBuf> {
    let path = init.operator_config.clone().or_else(operator::default_path);
    let path = path
        .context("there is no home directory for the operator's key: use --operator-config FILE")?;
    let mut contexts =
        Contexts::load_or_empty(&path).context("cannot read the operator's configuration")?;
    contexts.add(operator::Context {
        name: init.name.clone(),
        mesh,
        mesh_name: init.name.clone(),
        operator_name: init.operator.clone(),
        operator: root,
        agents: vec![KnownAgent { address: advertised.to_owned(), key: identity.key() }],
    });
    contexts.save(&path).context("cannot save the operator's key")?;
    Ok(path)
}

#[expect(clippy::print_stdout, reason = "what the person at the terminal has to read and keep")]
fn announce(
    init: &Init,
    node: &str,
    advertised: &str,
    contexts: &std::path::Path,
    recovery: &KeyPair,
) {
    println!("Created the mesh {} with the node {node} at {advertised}.", init.name);
    println!();
    println!(
        "The recovery key, shown only now. Keep it offline: it replaces the root key if that is lost or stolen."
    );
    println!();
    println!("    {}", recovery::to_text(recovery).as_str());
    println!();
    println!("agentctl finds the mesh and the key of {} in {}.", init.operator, contexts.display());
    // Without an agent that runs, agentctl finds nobody.
    let first = if init.no_run { "`systemctl start agentmesh-agent`; then " } else { "" };
    println!("Next: {first}`agentctl token create` prints the line that adds another server.");
}
