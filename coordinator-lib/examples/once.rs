//! Something that must happen once: two nodes want to renew a certificate, and three witnesses see to it that one of them does.
//!
//! `cargo run -p mesh-coordinator --example once`
//!
//! Whatever must not happen twice gets a [`LeaseId`] and a [`Lease`] on each node that may do it. The machines know neither clocks nor
//! connections: here a message takes no time and a disk writes at once. In the agent `Leases` does what this loop does.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mesh_coordinator::id::{AppUid, Incarnation, NodeId, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::{
    BootId, Configuration, Holder, Home, Lease, LeaseId, Motion, Setup, Step, StoreId, Timing,
    Witness, WitnessId,
};
use mesh_coordinator::rules::Rules;
use mesh_coordinator::time::Reading;

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 10])
}

fn witness(n: u8) -> WitnessId {
    WitnessId { node: node(n), store: StoreId(n.into()) }
}

/// Carries out what a lease wants; returns whether it was acquired.
fn carry_out(
    now: Reading,
    id: &LeaseId,
    (me, lease): (NodeId, &mut Lease),
    witnesses: &mut BTreeMap<NodeId, Witness>,
    motions: Vec<Motion>,
) -> bool {
    let (mut queue, mut acquired) = (VecDeque::from(motions), false);
    while let Some(motion) = queue.pop_front() {
        match motion {
            Motion::Send { to, request } => {
                let Some(asked) = witnesses.get_mut(&to) else { continue };
                let mut steps = Vec::new();
                asked.handle(now, me, id, Home::FIRST, request, &mut steps);
                let by = asked.id();
                for step in steps {
                    let answers = match step {
                        Step::Answer { answer, .. } => vec![answer],
                        // An agent writes, flushes, and lets the answers leave only then.
                        Step::Persist { ticket, then, .. } => {
                            asked.persisted(ticket);
                            then.into_iter().map(|(_, answer)| answer).collect()
                        }
                    };
                    for answer in answers {
                        let mut more = Vec::new();
                        lease.answer(now, by, answer, &mut more);
                        queue.extend(more);
                    }
                }
            }
            Motion::Acquired { .. } => acquired = true,
            // Whatever ends the work if this node does not renew in time is told here.
            Motion::Deadline(_) | Motion::Lapsed { .. } | Motion::Locate => {}
        }
    }
    acquired
}

#[expect(clippy::print_stdout, reason = "it shows who may")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let service = "certificate".parse()?;
    let id = LeaseId::first(SlotId { app: AppUid([1; 16]), service, index: SlotIndex::Number(0) });
    let timing = Timing::of(Timing::TTL_MIN)?;
    let first = Configuration::first([1, 2, 3].map(witness).into(), timing.ttl);
    let witness_of =
        |n: u8| (node(n), Witness::new(Reading::default(), witness(n), Rules::ALL, []));
    let mut witnesses = BTreeMap::from([1, 2, 3].map(witness_of));
    let lease = |n: u8| {
        let me = Holder { node: node(n), boot: BootId(n.into()), incarnation: Incarnation(1) };
        let (seed, first) = (n.into(), first.clone());
        let lease = Lease::new(Setup {
            me,
            former: None,
            first,
            timing,
            seed,
            resume: None,
            rules: Rules::ALL,
        });
        (node(n), lease)
    };
    let mut candidates = BTreeMap::from([1, 2].map(lease));
    let mut now = Reading::default();
    for (rank, candidate) in (0..).zip(candidates.values_mut()) {
        candidate.seek(now, rank);
    }
    let mut n_done = 0;
    while n_done < candidates.len() {
        now = now + Duration::from_millis(10);
        for (me, lease) in &mut candidates {
            let mut motions = Vec::new();
            lease.wake(now, &mut motions);
            if !carry_out(now, &id, (*me, lease), &mut witnesses, motions) {
                continue;
            }
            let token = lease.acquired(now);
            println!("{now:?}: {me} may, by {token:?}");
            n_done += 1;
            // Done: the next one need not wait for the end of the time.
            let mut motions = Vec::new();
            lease.release(&mut motions);
            carry_out(now, &id, (*me, lease), &mut witnesses, motions);
        }
    }
    Ok(())
}
