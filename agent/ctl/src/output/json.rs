//! The shape of every JSON document that agentctl prints: a promise to scripts.
//!
//! Fields are only ever added. Each shape is declared once, with its documentation, by the macro `shapes`, so that `agentctl json` and
//! `JSON.md` are made from what is really printed.

mod markdown;

pub(crate) use self::markdown::markdown;
use self::markdown::{Field, Shape};

/// Declares documents, and lists them with their documentation.
macro_rules! shapes {
    ($($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)+
    })+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
            pub(crate) struct $name {
                $($(#[doc = $field_doc])+ pub(crate) $field: $type,)+
            }
        )+

        /// All shapes, the documents first.
        pub(crate) const SHAPES: &[Shape] = &[$(Shape {
            name: stringify!($name),
            doc: &[$($doc),+],
            fields: &[$(Field {
                name: stringify!($field),
                rust: stringify!($type),
                doc: &[$($field_doc),+],
            }),+],
        }),+];
    };
}

pub(crate) use self::lease::{Lease, LeaseSeeker, LeaseWitness, Leases};

mod lease;

shapes! {
    /// `agentctl ps`: the apps.
    Apps {
        /// All apps, or the one that was asked for.
        apps: Vec<App>,
        /// Apps that do not run because another one has their name: all, or those of the name that was asked for.
        parked: Vec<Parked>,
        /// Replicas of apps and services that are no more, as long as something of them is there. Empty when one app was asked for.
        leaving: Vec<Slot>,
    }

    /// `agentctl status`: the mesh on one screen.
    Status {
        /// The name of the mesh.
        mesh: String,
        /// Its identity, 64 hexadecimal digits.
        mesh_id: String,
        /// The agent that answered.
        seen_by: String,
        /// What your key may do: `viewer`, `deployer` or `admin`.
        role: String,
        /// How many nodes are alive.
        nodes_alive: u64,
        /// How many nodes there are.
        nodes: u64,
        /// Those of them that only vote and witness, and never hold a replica.
        nodes_witness_only: Vec<String>,
        /// The nodes that are not alive.
        nodes_missing: Vec<String>,
        /// How many apps there are.
        apps: u64,
        /// The services that have fewer ready replicas than they should, as `app/service ready/wanted`.
        degraded: Vec<String>,
        /// What is wrong with the mesh as a whole.
        problems: Vec<String>,
        /// The apps that do not run because another one has their name.
        parked: Vec<Parked>,
        /// What the agent that answered refused since its start, and how often: by reason, as RUNBOOK.md explains them. What was never refused is left out.
        refused: std::collections::BTreeMap<String, u64>,
    }

    /// `agentctl nodes` and `agentctl node ls`: the nodes.
    Nodes {
        /// All members, by name.
        nodes: Vec<Node>,
    }

    /// `agentctl why SLOT`: why a replica is where it is.
    Why {
        /// The replica.
        slot: Slot,
        /// Its lease; null when the service is not exclusive.
        lease: Option<Lease>,
        /// Every node, in the order in which it would get the slot if it were free now.
        candidates: Vec<Candidate>,
        /// What the agent that answered decided about the slot, newest last.
        decisions: Vec<Decision>,
    }

    /// `agentctl events`: one event on each line.
    Event {
        /// When, RFC 3339, by the time of the mesh as the node that saw it had it.
        at: String,
        /// The node that saw it, by name, or by id when it is no member any more.
        seen_by: String,
        /// `info`, `warning` or `error`.
        severity: String,
        /// What it is about: `mesh`, `node NAME` or `app/service/index`.
        subject: String,
        /// What happened.
        text: String,
    }

    /// `agentctl events`: a line for a node whose events are missing; in `agentctl leases` a node whose answer is.
    SilentNode {
        /// The node.
        silent: String,
        /// Why it could not be asked.
        reason: String,
    }

    /// `agentctl logs`: one line of a log on each line.
    LogLine {
        /// The replica.
        slot: String,
        /// When, RFC 3339, by the time of the mesh.
        at: String,
        /// `stdout` or `stderr`.
        stream: String,
        /// The line; bytes that are not UTF-8 are replaced.
        text: String,
    }

    /// `agentctl image ls`: the images on the agent that answered.
    Images {
        /// By name.
        images: Vec<Image>,
    }

    /// `agentctl image push`: what was stored.
    Pushed {
        /// The images of the archive.
        images: Vec<Image>,
        /// The nodes that have all of them.
        stored_on: Vec<String>,
        /// How many other nodes were alive.
        peers: u32,
    }

    /// `agentctl place`: what was planned and what came of it.
    Placed {
        /// The plan.
        plan: Plan,
        /// What was written down; null with `--dry-run` and when there was nothing to do.
        stored: Option<Stored>,
        /// How the rollout ended; null when it was not waited for.
        rollout: Option<Rollout>,
    }

    /// `agentctl scale`, `restart`, `stop`, `start`, `rm`, `drain`, `undrain`, `node label`, `node rm`, `node forget`, `operator rm`,
    /// and those of `agentctl context` that change something.
    Changed {
        /// What was asked for, in words.
        change: String,
        /// What was written down; null when there was nothing to do.
        stored: Option<Stored>,
        /// How the rollout ended; null when there was none or it was not waited for.
        rollout: Option<Rollout>,
    }

    /// `agentctl token create`: a secret that lets servers join.
    Token {
        /// The secret.
        token: String,
        /// What to type on the new server.
        command: String,
        /// The one node that redeems it.
        redeemer: String,
        /// How many servers may join by it.
        uses: u32,
        /// When it ends, RFC 3339, by the time of the mesh.
        expires: String,
    }

    /// `agentctl operator ls`: those who may give orders.
    Operators {
        /// The mightiest first, then by name; with `--all` those who were removed at the end.
        operators: Vec<Operator>,
    }

    /// `agentctl operator add`: an operator's role.
    OperatorAdded {
        /// What holds now, in words.
        change: String,
        /// What was written down; null when there was nothing to do.
        stored: Option<Stored>,
        /// The operator's public key, 64 hexadecimal digits.
        key: String,
        /// Its fingerprint.
        fingerprint: String,
        /// What the operator has to type; null when the address of the agent that answered is not known. It holds no secret.
        login: Option<String>,
    }

    /// `agentctl login`: your key, and how far the mesh has let it in.
    Login {
        /// `key`: there is a key and no mesh; `waiting`: the mesh does not know the key; `silent`: no agent answers; `operator`:
        /// all is done.
        state: String,
        /// Your name.
        operator: String,
        /// Your role: `viewer`, `deployer` or `admin`; null unless the state is `operator`.
        role: Option<String>,
        /// The context that was made; null when the state is `key`.
        context: Option<String>,
        /// Your public key, 64 hexadecimal digits.
        key: String,
        /// Its fingerprint.
        fingerprint: String,
        /// What an admin has to type.
        admission: String,
        /// The configuration file.
        config: String,
    }

    /// `agentctl context ls`: the meshes that this machine knows.
    Contexts {
        /// In the order in which they were added.
        contexts: Vec<Context>,
    }

    /// `agentctl recover`: the root's key was replaced.
    Recovered {
        /// What was done.
        change: String,
        /// Where it is written down; null with `--dry-run`.
        stored: Option<Stored>,
        /// The new root's name.
        operator: String,
        /// The new root's public key; null with `--dry-run`.
        key: Option<String>,
        /// The context that holds the new root's key; null with `--dry-run`.
        context: Option<String>,
        /// The recovery key that counts from now on, shown only now; null with `--dry-run`.
        recovery_key: Option<String>,
        /// The operators afterwards, with their roles.
        operators: Vec<String>,
        /// What goes: operators, apps and nodes that only the old root vouched for.
        lost: Vec<String>,
    }

    /// `agentctl version`.
    Version {
        /// The version of agentctl.
        agentctl: String,
        /// The version of the agent that answered; null when none did.
        agent: Option<String>,
    }

    /// An operator, or somebody who was one.
    Operator {
        /// The name.
        name: String,
        /// `viewer`, `deployer` or `admin`.
        role: String,
        /// Whether it was removed: then the role is its last one.
        removed: bool,
        /// Whether it is you.
        you: bool,
        /// The public key, 64 hexadecimal digits.
        key: String,
        /// What people compare to know that they mean the same key.
        fingerprint: String,
        /// Who made it an operator; null for the first one.
        appointed_by: Option<String>,
        /// When, RFC 3339, by the time of the mesh as that operator had it.
        since: String,
    }

    /// `agentctl context show`: a mesh that this machine knows, and you there.
    Context {
        /// What it is called on this machine.
        name: String,
        /// Whether it is the current one.
        current: bool,
        /// What people call the mesh.
        mesh: String,
        /// Its identity, 64 hexadecimal digits.
        mesh_id: String,
        /// Your name there.
        operator: String,
        /// Your public key, 64 hexadecimal digits.
        key: String,
        /// Its fingerprint.
        fingerprint: String,
        /// `host:port` of the agents that are tried, in this order.
        agents: Vec<String>,
        /// What somebody else has to type to find the mesh; null when no agent is known. It holds no secret.
        login: Option<String>,
    }

    /// An app.
    App {
        /// Its name.
        name: String,
        /// Its identity, which a new app of the same name does not have.
        uid: String,
        /// The number of its release.
        version: u64,
        /// False after `agentctl stop`.
        running: bool,
        /// Who wrote the release: a public key, 64 hexadecimal digits.
        author: String,
        /// When, RFC 3339, by the time of the mesh as the author had it.
        written: String,
        /// Its services, by name.
        services: Vec<Service>,
    }

    /// An app that was placed on one side of a split while another of its name was placed on the other side: it does not run since they met.
    Parked {
        /// Its name.
        name: String,
        /// Its identity, by which `agentctl rm` removes it alone.
        uid: String,
        /// The number of its release.
        version: u64,
        /// Who wrote the release: a public key, 64 hexadecimal digits.
        author: String,
        /// When, RFC 3339, by the time of the mesh as the author had it.
        written: String,
        /// Its services.
        services: Vec<String>,
        /// The identity of the app of that name that runs.
        runs: String,
    }

    /// A service of an app.
    Service {
        /// Its name.
        name: String,
        /// The image as the manifest wrote it.
        image: String,
        /// The digest of what runs.
        digest: String,
        /// The number of the current definition.
        revision: u64,
        /// Whether a replica never runs twice.
        exclusive: bool,
        /// How many replicas are asked for; null is one on every suitable node.
        replicas: Option<u32>,
        /// How many replicas there should be now.
        wanted: u32,
        /// How many of them are ready.
        ready: u32,
        /// Its published ports.
        ports: Vec<Port>,
        /// After the death of a node its replicas are claimed elsewhere within this time.
        failover_bound_ms: u64,
        /// The slowest failover measured on the replicas that are there; null when none of them replaced a dead one.
        last_failover_ms: Option<u32>,
        /// Its replicas.
        slots: Vec<Slot>,
    }

    /// A published port.
    Port {
        /// The port on the nodes.
        published: u16,
        /// The port in the container.
        target: u16,
        /// `tcp` or `udp`.
        protocol: String,
        /// `mesh`: every node listens; `host`: only the node of the replica does.
        mode: String,
    }

    /// A replica's place.
    Slot {
        /// `app/service/index`.
        name: String,
        /// False when the app does not want it any more.
        wanted: bool,
        /// Who claims it, the best first.
        claims: Vec<Claim>,
    }

    /// A node's claim to run a replica.
    Claim {
        /// The node's name.
        node: String,
        /// The node's identity.
        node_id: String,
        /// `alive`, `restarting`, `down` or `unknown`.
        node_status: String,
        /// The number of the definition that it runs.
        revision: u64,
        /// Whether that is the current one.
        current: bool,
        /// `intent`, `starting`, `ready`, `unhealthy`, `ended`, `failed` or `stopping`.
        phase: String,
        /// Whether it waits to be relieved.
        yielding: bool,
        /// How often the container was started again.
        restarts: u32,
        /// From the last sign of life of the node that it replaced to readiness; null when it replaced none.
        failover_ms: Option<u32>,
        /// The fencing token of the lease by which it is held; null when the service is not exclusive.
        token: Option<u64>,
        /// The last error, or how the container ended; may be empty.
        detail: String,
    }

    /// A member.
    Node {
        /// Its name.
        name: String,
        /// Its identity.
        id: String,
        /// `alive`, `restarting`, `down` or `unknown`.
        status: String,
        /// Whether it is drained.
        drained: bool,
        /// Whether it only votes and witnesses, and never holds a replica.
        witness_only: bool,
        /// Its labels.
        labels: std::collections::BTreeMap<String, String>,
        /// Its share in placement, in percent of a usual node.
        weight: u32,
        /// What it can set aside; null until it said so.
        capacity: Option<Amounts>,
        /// What its replicas set aside.
        reserved: Amounts,
        /// How many replicas it claims.
        claims: u32,
        /// The version of its agent; null until it said so.
        version: Option<String>,
        /// `host:port` of its API, best first.
        addresses: Vec<String>,
        /// How long ago it was heard; null when never since the answering agent started.
        heard_ago_ms: Option<u64>,
    }

    /// Amounts of a node's resources.
    Amounts {
        /// Processor time, in thousandths of a core.
        cpu_millis: u64,
        /// Memory, in bytes.
        memory_bytes: u64,
    }

    /// A node as a place for a replica.
    Candidate {
        /// The node.
        node: String,
        /// Its rank, from zero; null when it cannot hold the slot.
        rank: Option<u32>,
        /// How many other replicas of the service it holds; the fewer, the better.
        crowding: u32,
        /// Its score, which decides among equally crowded nodes; a number of 64 bits, as text because JSON numbers are not.
        score: String,
        /// Why it cannot hold the slot.
        refusals: Vec<String>,
    }

    /// A decision of an agent.
    Decision {
        /// How long ago.
        ago_ms: u64,
        /// What and why.
        text: String,
    }

    /// An image.
    Image {
        /// Its digest.
        digest: String,
        /// The names under which it is known.
        names: Vec<String>,
        /// The size of its blobs.
        bytes: u64,
    }

    /// What `place` is going to do.
    Plan {
        /// The app.
        app: String,
        /// The number of the release; the current one when nothing changes.
        version: u64,
        /// Whether anything is to be done.
        changes: bool,
        /// Service by service.
        steps: Vec<Step>,
        /// What the manifest's author should know.
        warnings: Vec<String>,
    }

    /// What happens to a service.
    Step {
        /// The service.
        service: String,
        /// `create`, `replace`, `scale`, `update`, `keep` or `remove`.
        action: String,
        /// Why, one change on each line.
        reasons: Vec<String>,
        /// How many replicas it has now; null when it is new.
        replicas_now: Option<u32>,
        /// How many replicas it gets; null is one on every suitable node.
        replicas: Option<u32>,
        /// The failover bound; null while the mesh cannot say it.
        failover_bound_ms: Option<u64>,
    }

    /// Where records were stored.
    Stored {
        /// The nodes that have them on disk.
        stored_on: Vec<String>,
        /// How many other nodes were alive.
        peers: u32,
    }

    /// How a rollout ended.
    Rollout {
        /// `done`, `partly` or `failed`.
        outcome: String,
        /// How many replicas are as they should be.
        ready: u32,
        /// How many there should be.
        wanted: u32,
        /// The replicas that are not, with the reason.
        faults: Vec<Fault>,
    }

    /// A replica that is not as it should be.
    Fault {
        /// The replica.
        slot: String,
        /// The node; null when nobody claims it.
        node: Option<String>,
        /// What is wrong.
        reason: String,
    }
}
