//! `agent join`: this node becomes a member of a mesh.

use std::time::Duration;

use anyhow::{Context, bail};
use mesh_coordinator::catalogue::Catalogue;
use mesh_engine::Clock;
use mesh_identity::invite::{self, Invitee};
use mesh_identity::keys::NodeIdentity;
use mesh_identity::token::Token;
use mesh_identity::{record, tls};
use mesh_ports::control::JoinRequest;
use mesh_ports::directory::Signer;
use mesh_ports::store::Store;
use mesh_store::SledStore;

use crate::address;
use crate::cli::Join;
use crate::config::Config;
use crate::home::{Home, Membership, host_name};

/// How long the whole exchange may take: one connection, one answer, on a bad line.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Joins a mesh.
pub(crate) fn join(config: &Config, join: &Join) -> anyhow::Result<()> {
    let token = Token::parse(&join.token).context("--token")?;
    let home = Home::new(&config.data_dir);
    home.prepare()?;
    let identity = NodeIdentity::new(home.key_to_join()?);
    let name = join.node_name.clone().unwrap_or_else(|| host_name(identity.node()));
    let now = Clock::new(config.wall_clock_offset_ms).wall();
    let advertised = address::advertised(config, join.advertise.as_deref())?;
    let invitee = Invitee { mesh: token.mesh, key: identity.key(), name: name.clone() };
    let request = JoinRequest {
        key: identity.key(),
        name,
        invitation: token.invitation.public(),
        invited: invite::sign(&token.invitation, &invitee),
        address: address::record(&identity, token.mesh, &advertised, None, now)?,
    };
    let tls = tls::client_config(identity.keys(), token.redeemer).context("cannot prepare TLS")?;
    let address = join.address.as_deref().unwrap_or(&token.address);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let admitted = runtime
        .block_on(mesh_api::client::join(address, tls, &request, &record::Codec, JOIN_TIMEOUT))
        .with_context(|| format!("cannot join at {address}"))?;

    let mut catalogue = Catalogue::new(token.mesh);
    catalogue.extend(admitted.records.clone());
    // An earlier attempt whose answer was lost may have given it another name.
    let member = catalogue.state().nodes.get(&identity.node());
    let Some(name) = member.map(|member| member.name.clone()) else {
        bail!(
            "{address} answered, but its records do not make this node a member of the token's mesh"
        );
    };
    let store = SledStore::open(&home.store()).context("cannot open the store")?;
    store
        .commit(mesh_engine::records::put(&admitted.records))
        .context("cannot store the catalogue")?;
    drop(store);
    home.save_membership(&Membership {
        mesh: token.mesh,
        name: name.clone(),
        advertise: join.advertise.clone(),
        witness_only: join.witness_only,
    })?;
    let mesh_name = catalogue
        .state()
        .genesis
        .as_ref()
        .map(|genesis| genesis.name.to_string())
        .unwrap_or_default();
    announce(&mesh_name, &name.to_string(), &advertised, catalogue.state().nodes.len());
    if join.no_run {
        announce_start();
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the person at the terminal has to know")]
fn announce(mesh: &str, node: &str, advertised: &str, n_nodes: usize) {
    println!(
        "Joined the mesh {mesh} as the node {node} at {advertised}; it has {n_nodes} nodes now."
    );
}

#[expect(clippy::print_stdout, reason = "what the person at the terminal has to type")]
fn announce_start() {
    println!("Next: `systemctl start agentmesh-agent`.");
}
