//! What this node knew when its last life ended: its store, and what to do when the store is damaged.
//!
//! The node's key, its mesh and its life's number are in files of their own, so a lost store costs a transfer from the peers. Nothing
//! else of the agent runs meanwhile: containers go on under their shims, and nobody can take one for a stray.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use mesh_coordinator::catalogue::{Catalogue, Entry};
use mesh_coordinator::id::{MeshId, NodeId};
use mesh_coordinator::lease::exclusive::{LeaseId, Register};
use mesh_engine::registers::Loaded;
use mesh_identity::keys::NodeIdentity;
use mesh_identity::{record, register, tls};
use mesh_ports::directory::Signer as _;
use mesh_ports::store::Store as _;
use mesh_store::{OpenError, SledStore, set_aside};
use tracing::{error, info, warn};

use crate::contacts::{self, Contact};
use crate::home::Home;
use crate::life;

/// How long one peer may be silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after nobody answered; and the longest one, as it grows.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What is there to begin with.
pub(crate) struct Stock {
    pub(crate) store: Arc<SledStore>,
    pub(crate) records: Vec<Entry>,
    /// What this node vouches for as a witness.
    pub(crate) registers: Vec<(LeaseId, Register)>,
    /// Whether records may be missing that this node once had.
    pub(crate) doubtful: bool,
    /// What people should know of it.
    pub(crate) news: Vec<String>,
}

/// Opens the store. One that is damaged beyond repair is set aside, and what a new one lacks is fetched from the peers, however long
/// it takes until one of them answers.
pub(crate) async fn open(
    home: &Home,
    mesh: MeshId,
    identity: &NodeIdentity,
) -> anyhow::Result<Stock> {
    let mut news = Vec::new();
    let store = match SledStore::open(&home.store()) {
        Ok(store) => store,
        Err(damage @ OpenError::Corrupt { .. }) => {
            // Looked up first: without anybody to ask, everything stays as it is.
            let damage = mesh_telemetry::Chain(&damage).to_string();
            contacts(home).context(damage.clone())?;
            let aside = set_aside(&home.store()).context("cannot set the damaged store aside")?;
            error!(%damage, aside = %aside.display(), "the store is damaged and set aside");
            let aside = aside.display();
            news.push(format!("the store was damaged and is kept as {aside}: {damage}"));
            SledStore::open(&home.store()).context("cannot open a new store")?
        }
        Err(error) => return Err(error).context("cannot open the store"),
    };
    let loaded =
        mesh_engine::records::load(&store, &record::Codec).context("cannot load the catalogue")?;
    let mut records = loaded.entries;
    let doubtful = store.repaired() || loaded.n_damaged > 0;
    if is_whole(&records, mesh, identity.node()) {
        if doubtful {
            news.push(
                "the store lost its end or single records: peers are asked for them".to_owned(),
            );
        }
    } else {
        warn!(n_records = records.len(), "the store does not know this node's mesh any more");
        let fetched = fetch(home, mesh, identity).await?;
        let n_fetched = fetched.len();
        store.commit(mesh_engine::records::put(&fetched)).context("cannot store the catalogue")?;
        info!(n_records = n_fetched, "the catalogue was fetched from a peer");
        news.push(format!("the catalogue was lost, and {n_fetched} records came from a peer"));
        records.extend(fetched);
    }
    let put_back =
        life::is_put_back(&store, &home.life()).context("cannot read the store's last life")?;
    if loaded.n_damaged > 0 || put_back {
        warn!(put_back, "the store is not what it was: this node is another witness");
        store.renew().context("cannot make the store another witness")?;
    }
    let Loaded { registers, lost } = mesh_engine::registers::load(&store, &register::Codec)
        .context("cannot load what this node promised as a witness")?;
    news.extend(lost.map(|reason| {
        format!("what this node promised as a witness cannot be read, so it is another witness: {reason}")
    }));
    Ok(Stock { store: Arc::new(store), records, registers, doubtful, news })
}

/// Whether records say which mesh this is, and that this node is, or was, a member. The genesis record is what the mesh's identity is
/// the hash of, and all others follow from it.
fn is_whole(records: &[Entry], mesh: MeshId, me: NodeId) -> bool {
    let mut catalogue = Catalogue::new(mesh);
    catalogue.extend(records.to_vec());
    let state = catalogue.state();
    let knows_me = state.nodes.contains_key(&me) || state.removed_nodes.contains(&me);
    state.genesis.is_some() && knows_me
}

fn contacts(home: &Home) -> anyhow::Result<Vec<Contact>> {
    let contacts = contacts::load(&home.contacts())?;
    if contacts.is_empty() {
        bail!(
            "this node's catalogue is lost, and {} names nobody to ask for it: bring {} back from a copy of this server, or let the server \
             join anew (`agentctl node forget` it, `deploy/install --remove`, join)",
            home.contacts().display(),
            home.store().display()
        );
    }
    Ok(contacts)
}

async fn fetch(home: &Home, mesh: MeshId, identity: &NodeIdentity) -> anyhow::Result<Vec<Entry>> {
    let contacts = contacts(home)?;
    let mut pause = PAUSE_MIN;
    loop {
        for (contact, address) in
            contacts.iter().flat_map(|contact| contact.api.iter().map(move |at| (contact, at)))
        {
            let asked = ask(contact, address, identity).await;
            match asked {
                Ok(records) if is_whole(&records, mesh, identity.node()) => return Ok(records),
                Ok(_) => warn!(address, "a peer's records do not make this node a member"),
                Err(error) => {
                    warn!(address, error = %format!("{error:#}"), "a peer cannot be asked");
                }
            }
        }
        warn!(
            n_contacts = contacts.len(),
            "nobody gives this node its catalogue; containers go on, and it is tried again"
        );
        // Does nothing where no service manager waits.
        let longer = u32::try_from((PAUSE_MAX + ANSWER_TIMEOUT).as_micros()).unwrap_or(u32::MAX);
        let more = longer.saturating_mul(u32::try_from(contacts.len()).unwrap_or(u32::MAX));
        drop(sd_notify::notify(&[sd_notify::NotifyState::ExtendTimeoutUsec(more)]));
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

async fn ask(
    contact: &Contact,
    address: &str,
    identity: &NodeIdentity,
) -> anyhow::Result<Vec<Entry>> {
    let key = contact.key().context("its key is not written as one")?;
    let tls = tls::client_config(identity.keys(), key).context("cannot prepare TLS")?;
    Ok(mesh_api::client::catalogue(address, tls, &record::Codec, ANSWER_TIMEOUT).await?)
}
