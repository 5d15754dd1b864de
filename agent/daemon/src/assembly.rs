//! Puts the parts of an agent together: the only place where two adapters meet.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mesh_api::client::{PeerPool, PoolConfig, PoolPorts, TlsFor};
use mesh_api::server::{self, Limits};
use mesh_coordinator::catalogue::{Catalogue, RecordKey};
use mesh_coordinator::fact::NodeFacts;
use mesh_coordinator::id::{Incarnation, NodeId, PublicKey};
use mesh_coordinator::lease::exclusive::{LeaseId, Register, StoreId};
use mesh_coordinator::membership::HEARTBEAT;
use mesh_coordinator::node;
use mesh_coordinator::spec::Reservation;
use mesh_engine::directory::Live;
use mesh_engine::{Clock, Handle, Inboxes, Parts};
use mesh_identity::keys::NodeIdentity;
use mesh_identity::{fact, record, register, request, tls};
use mesh_network::bridge::{self, Bridge};
use mesh_network::proxy::Proxy;
use mesh_ports::clock::{LeaseClock as _, WallClock as _};
use mesh_ports::control::Control;
use mesh_ports::directory::{Directory, Signer, Standing};
use mesh_ports::gossip::Gossip;
use mesh_ports::runtime::{self, Runtime};
use mesh_ports::store::Store as _;
use mesh_runtime::clock::SteadyClock;
use mesh_runtime::embedded::{self, Driver};
use mesh_runtime::{LogLimits, image};
use mesh_store::SledStore;
use mesh_telemetry::{Refusals, Tasks};
use tracing::{info, warn};

use crate::admission::Door;
use crate::config::Config;
use crate::glue::{Published, Real};
use crate::home::{Home, Membership};
use crate::stock::{self, Stock};
use crate::{address, contacts, life};

/// News that wait for the engine: a burst of every peer at once.
const EVENTS: usize = 4_096;

/// What a node is before its parts are.
struct Seed {
    identity: Arc<NodeIdentity>,
    membership: Membership,
    store: Arc<SledStore>,
    records: Vec<mesh_coordinator::catalogue::Entry>,
    registers: Vec<(LeaseId, Register)>,
    directory: Arc<Live>,
    clock: Clock,
    incarnation: Incarnation,
    lease_clock: SteadyClock,
    home: Home,
    doubtful: bool,
    news: Vec<String>,
    refusals: Refusals,
    /// Whether this node holds no replicas.
    witness_only: bool,
}

impl Seed {
    async fn load(config: &Config) -> anyhow::Result<Self> {
        let home = Home::new(&config.data_dir);
        let membership = home.load_membership()?;
        let identity = Arc::new(NodeIdentity::new(home.load_key()?));
        let clock = Clock::new(config.wall_clock_offset_ms);
        let stock = stock::open(&home, membership.mesh, &identity).await?;
        let Stock { store, records, registers, doubtful, news } = stock;
        let mut catalogue = Catalogue::new(membership.mesh);
        catalogue.extend(records.clone());
        let directory = Arc::new(Live::new(membership.mesh, identity.node(), catalogue.state()));
        let incarnation = life::begin(store.as_ref(), &home.life(), &clock)
            .context("cannot begin another life")?;
        Ok(Self {
            witness_only: config.witness_only.unwrap_or(membership.witness_only),
            identity,
            membership,
            store,
            records,
            registers,
            directory,
            clock,
            incarnation,
            lease_clock: SteadyClock::of_this_boot().context("cannot read the clocks of leases")?,
            home,
            doubtful,
            news,
            refusals: Refusals::new(),
        })
    }

    fn engine(&self, capacity: Reservation) -> mesh_engine::Config {
        mesh_engine::Config {
            node: node_config(self, capacity),
            records: self.records.clone(),
            registers: self.registers.clone(),
            clock: self.clock.clone(),
            doubtful: self.doubtful,
            news: self.news.clone(),
        }
    }

    fn door(&self, control: Handle) -> Door<SledStore, Live> {
        Door {
            mesh: self.membership.mesh,
            identity: Arc::clone(&self.identity),
            control,
            directory: Arc::clone(&self.directory),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            refusals: self.refusals.clone(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    fn tls_for(&self) -> TlsFor {
        let identity = Arc::clone(&self.identity);
        Arc::new(move |expected: &PublicKey| {
            #[expect(
                clippy::expect_used,
                reason = "the same key and library made the server's settings a moment ago"
            )]
            tls::client_config(identity.keys(), *expected).expect("settings of a client")
        })
    }
}

/// Containers and images of this node.
pub(crate) struct Containers {
    pub(crate) runtime: Arc<Driver<Bridge>>,
    images: Arc<image::Store>,
    events: runtime::Events,
}

impl Containers {
    pub(crate) async fn open(
        config: &Config,
        me: NodeId,
        network: Bridge,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let images = image::Store::open(&Home::new(&config.data_dir).images())
            .context("cannot open the images")?;
        let images = Arc::new(images);
        let roots = Arc::<image::Store>::clone(&images);
        let (driver, events) =
            Driver::open(driver_config(config, me), network, roots, tasks.clone())
                .await
                .context("cannot open the container driver")?;
        Ok(Self { runtime: Arc::new(driver), images, events })
    }
}

/// Starts all parts of an agent in `tasks`, and returns the remote control of its engine and what that knows of the mesh.
pub(crate) async fn assemble(
    config: &Config,
    tasks: &Tasks,
) -> anyhow::Result<(Handle, Arc<Live>)> {
    let seed = Seed::load(config).await?;
    let me = seed.identity.node();
    info!(node = %me, name = %seed.membership.name, version = env!("CARGO_PKG_VERSION"), "starting");
    let advertised = address::advertised(config, seed.membership.advertise.as_deref())?;
    let (news, peer_news) = tokio::sync::mpsc::channel(EVENTS);
    let directory: Arc<dyn Directory> = Arc::<Live>::clone(&seed.directory);
    let pool = PeerPool::new(
        PoolConfig::for_heartbeat(HEARTBEAT),
        PoolPorts {
            directory: Arc::clone(&directory),
            records: Arc::new(record::Codec),
            tls_for: seed.tls_for(),
            refusals: seed.refusals.clone(),
        },
        news.clone(),
        tasks.clone(),
    );
    let (gossip, gossip_news) = start_gossip(config, &seed, &advertised, tasks).await?;
    let containers = Containers::open(config, me, open_bridge(config).await?, tasks).await?;
    let handle = mesh_engine::start::<Real>(
        seed.engine(containers.runtime.capacity()),
        Parts {
            runtime: Arc::clone(&containers.runtime),
            images: Arc::clone(&containers.images),
            blobs: Arc::new(pool.clone()),
            gossip: Arc::new(gossip.clone()),
            peers: Arc::new(pool.clone()),
            store: Arc::clone(&seed.store),
            registers: Arc::new(register::Codec),
            lease_clock: Arc::new(seed.lease_clock),
            publisher: Arc::new(Published(Arc::new(Proxy::new(
                tasks.clone(),
                Arc::new(pool.clone()),
            )))),
            directory: Arc::clone(&seed.directory),
            refusals: seed.refusals.clone(),
        },
        Inboxes { runtime: containers.events, gossip: gossip_news, peers: peer_news },
        tasks,
    );
    let (clock, pace) = (seed.clock.clone(), gossip.clone());
    let parts = server::Parts {
        control: Arc::new(handle.clone()),
        runtime: containers.runtime,
        images: containers.images,
        admission: Arc::new(seed.door(handle.clone())),
        directory,
        records: Arc::new(record::Codec),
        requests: Arc::new(request::Codec),
        peers: pool,
        events: news,
        clock: Arc::new(clock.clone()),
        incarnation: Arc::new(move || gossip.incarnation()),
        refusals: seed.refusals.clone(),
    };
    serve_api(config, &seed, parts, tasks).await?;
    tasks.spawn("contacts", contacts::keep(seed.home.contacts(), Arc::clone(&seed.directory)));
    tasks.spawn("interval", follow_interval(Arc::clone(&seed.directory), pace));
    tasks.spawn(
        "address",
        tell_address(seed.identity, handle.clone(), advertised, seed.membership, clock),
    );
    Ok((handle, seed.directory))
}

async fn serve_api(
    config: &Config,
    seed: &Seed,
    parts: server::Parts<Real>,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let admitting = Arc::clone(&seed.directory);
    let admit = Arc::new(move |key: &PublicKey| admitting.standing(key) != Standing::Removed);
    let api = server::Config {
        listen: config.listen,
        tls: tls::server_config(seed.identity.keys(), admit).context("cannot prepare TLS")?,
        peer_key: tls::peer_key,
        node: seed.identity.node(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        beat_interval: HEARTBEAT,
        limits: Limits::default(),
    };
    let outgoing = parts.peers.clone();
    let bound = server::serve(api, parts, tasks).await.context("cannot serve")?;
    info!(address = %bound.address, "serving");
    let mut changes = seed.directory.changes();
    tasks.spawn("recheck", async move {
        while changes.changed().await.is_ok() {
            bound.handle.recheck();
            outgoing.recheck();
        }
    });
    Ok(())
}

async fn start_gossip(
    config: &Config,
    seed: &Seed,
    advertised: &str,
    tasks: &Tasks,
) -> anyhow::Result<(mesh_gossip::Handle, mesh_ports::gossip::Events)> {
    let addresses = mesh_api::resolve(advertised).await;
    let advertise = addresses
        .first()
        .copied()
        .with_context(|| format!("advertise: {advertised} is not known"))?;
    let gossip = mesh_gossip::Config {
        node: seed.identity.node(),
        incarnation: seed.incarnation,
        bind: config.listen,
        advertise,
        interval: seed.directory.gossip_interval(),
        grace: Duration::from_secs(15 * 60),
        contact_interval: Duration::from_secs(10),
        medium: mesh_gossip::Medium::Udp,
    };
    let (store, clock, life) = (Arc::clone(&seed.store), seed.clock.clone(), seed.home.life());
    let ports = mesh_gossip::Ports {
        directory: Arc::<Live>::clone(&seed.directory),
        sealer: Arc::<NodeIdentity>::clone(&seed.identity),
        facts: Arc::new(fact::Codec::new(Arc::clone(&seed.identity), seed.membership.mesh)),
        book: Arc::new(life::Book(Arc::clone(&seed.store))),
        next_incarnation: Arc::new(move || {
            life::begin(store.as_ref(), &life, &clock).map_err(std::io::Error::other)
        }),
        resolve: Arc::new(|address: String| {
            Box::pin(async move { mesh_api::resolve(&address).await })
        }),
        refusals: seed.refusals.clone(),
    };
    mesh_gossip::start(gossip, ports, tasks).await.context("cannot start gossip")
}

pub(crate) async fn open_bridge(config: &Config) -> anyhow::Result<Bridge> {
    let range = config.container_range.parse();
    let bridge = bridge::Config {
        name: config.bridge.clone(),
        range: range.with_context(|| {
            format!("container_range: {:?} is not ADDRESS/BITS", config.container_range)
        })?,
        state_dir: config.run_dir.join("network"),
    };
    let bridge = Bridge::open(bridge).await.context("cannot open the containers' network")?;
    for finding in bridge.findings().await {
        warn!(%finding, "the containers' network needs attention");
    }
    Ok(bridge)
}

/// How the container driver works on this host.
pub(crate) fn driver_config(config: &Config, node: NodeId) -> embedded::Config {
    let program = std::env::current_exe()
        .map_or_else(|_unknown| OsString::from("/proc/self/exe"), Into::into);
    embedded::Config {
        root: Home::new(&config.data_dir).containers(),
        run: config.run_dir.join("containers"),
        cgroup_parent: format!("/agentmesh/{node}"),
        shim: vec![program, OsString::from("shim")],
        capacity: config.capacity,
        log: LogLimits::DEFAULT,
        start_max: embedded::Config::START_MAX,
        nameservers: config.nameservers.clone(),
    }
}

fn node_config(seed: &Seed, capacity: Reservation) -> node::Config {
    let me = seed.identity.node();
    let seed_bytes = me
        .as_bytes()
        .iter()
        .fold(seed.incarnation.0, |sum, byte| sum.rotate_left(8) ^ u64::from(*byte));
    let store = StoreId(seed.store.id());
    node::Config {
        mesh: seed.membership.mesh,
        me,
        incarnation: seed.incarnation,
        facts: NodeFacts {
            name: seed.membership.name.clone(),
            capacity,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            restarting: false,
            clock_off_ms: 0,
            store: Some(store),
            witness_only: seed.witness_only,
            has_twin: false,
        },
        seed: seed_bytes,
        store,
        boot: seed.lease_clock.boot(),
    }
}

/// Gossips at the pace that the mesh wants, also when it grows.
async fn follow_interval(directory: Arc<Live>, gossip: mesh_gossip::Handle) {
    let mut changes = directory.changes();
    let mut interval = directory.gossip_interval();
    while changes.changed().await.is_ok() {
        let wanted = directory.gossip_interval();
        if wanted == interval {
            continue;
        }
        match gossip.set_interval(wanted).await {
            Ok(()) => interval = wanted,
            Err(error) => {
                warn!(error = %mesh_telemetry::Chain(&error), "gossip keeps its interval");
            }
        }
    }
}

/// Says where this node is, when the catalogue says otherwise.
async fn tell_address(
    identity: Arc<NodeIdentity>,
    handle: Handle,
    advertised: String,
    membership: Membership,
    clock: Clock,
) {
    let before = handle.record(RecordKey::Address(identity.node())).await;
    let known = before.as_ref().is_some_and(|entry| {
        matches!(&entry.record.body, mesh_coordinator::catalogue::Body::Address(address)
            if address.api == [advertised.clone()] && address.gossip == advertised)
    });
    if known {
        return;
    }
    let before = before.map(|entry| (entry.record.stamp.generation, entry.hash));
    let told = match address::record(&identity, membership.mesh, &advertised, before, clock.mesh())
    {
        Ok(record) => handle.submit(vec![record]).await.context("cannot store it").map(drop),
        Err(error) => Err(error),
    };
    match told {
        Ok(()) => info!(%advertised, "told the mesh this node's new address"),
        Err(error) => {
            warn!(error = %format!("{error:#}"), "the mesh does not know this node's new address");
        }
    }
}
