//! The shapes of leases.

use super::{Field, Shape, SilentNode};

shapes! {
    /// `agentctl leases`: who holds the replicas of exclusive services.
    Leases {
        /// Those of all apps, or of the one that was asked for, by app.
        leases: Vec<Lease>,
        /// The nodes that did not tell what they know.
        silent: Vec<SilentNode>,
    }

    /// The lease of a replica that never runs twice, as all nodes that answered know it.
    Lease {
        /// The replica.
        slot: String,
        /// False when the app does not want it any more.
        wanted: bool,
        /// Who holds it; null when nobody does.
        holder: Option<String>,
        /// Whether the holder says so itself; else only its witnesses do. Null when nobody holds it.
        holder_answers: Option<bool>,
        /// By which fencing token it is held: it rises with every holder. Null when nobody holds it.
        token: Option<u64>,
        /// For how long it is held if nobody renews it; null when nobody holds it.
        left_ms: Option<u64>,
        /// For how long nobody has held it; null while somebody does, and when no witness knows.
        free_for_ms: Option<u64>,
        /// For how long a witness grants it at a time.
        lease_ms: u64,
        /// Its witnesses; while they are changed, the old ones and the new ones.
        witnesses: Vec<LeaseWitness>,
        /// Whether enough of them answer for anybody to hold it.
        quorum: bool,
        /// The nodes that want it and do not hold it.
        seekers: Vec<LeaseSeeker>,
        /// What is wrong, and what to do about it, in words; empty when all is well.
        remarks: Vec<String>,
    }

    /// A witness of a replica that never runs twice, and what it answers.
    LeaseWitness {
        /// The node.
        node: String,
        /// Its identity.
        node_id: String,
        /// `stays`; or, while the witnesses are changed, `joins` or `leaves`.
        part: String,
        /// `holds`: it has granted the replica. `free`; `promised`: free, and promised to somebody last. What does not count: `silent`: no answer;
        /// `other store`: the node has lost what it kept as a witness; `no witness`: it is none until its agent starts again; `removed`: no member any more.
        answer: String,
        /// To whom it was granted or promised; else null.
        holder: Option<String>,
        /// By which fencing token it was granted; else null.
        token: Option<u64>,
        /// For how much longer it is granted; else null.
        left_ms: Option<u64>,
        /// Why there is no answer; else null.
        reason: Option<String>,
    }

    /// A node that wants a replica and does not hold it.
    LeaseSeeker {
        /// The node.
        node: String,
        /// When it asks the witnesses; zero when it does so now.
        asks_in_ms: u64,
    }
}
