//! Leases for people and for scripts.

use std::collections::BTreeSet;

use mesh_coordinator::id::NodeId;
use mesh_coordinator::lease::exclusive::WitnessId;
use mesh_coordinator::view::{Overview, Pursuit, Why};

use super::{json, of};
use crate::lease::{Answer, Holder, Lease, Part, Witness};
use crate::ui::{Cell, Mood, Table, cell, table};

/// A table of leases.
pub(crate) fn table_of(leases: &[Lease], overview: &Overview) -> Table {
    let columns = &["REPLICA", "HOLDER", "TOKEN", "LEFT", "WITNESSES"];
    let mut table = table(columns).spare(&["TOKEN"]);
    for lease in leases {
        table.add_row(row(lease, overview));
    }
    table
}

fn row(lease: &Lease, overview: &Overview) -> Vec<Cell> {
    let witnesses: Vec<String> =
        lease.witnesses.iter().map(|it| witness(lease, it, overview)).collect();
    let (holder, token, left) = match &lease.holder {
        Some(holder) => {
            let mood = if lease.has_quorum() && holder.says_so { Mood::Good } else { Mood::Busy };
            let name = of::node_name(overview, holder.node);
            (cell(name, mood), holder.token.to_string(), of::seconds(holder.left))
        }
        None => (cell("nobody", Mood::Bad), "-".to_owned(), "-".to_owned()),
    };
    vec![
        Cell::new(&lease.name),
        holder,
        Cell::new(token),
        Cell::new(left),
        Cell::new(witnesses.join(", ")),
    ]
}

/// A witness and what it answers, in few words.
fn witness(lease: &Lease, witness: &Witness, overview: &Overview) -> String {
    let name = of::node_name(overview, witness.id.node);
    let answer = match &witness.answer {
        Answer::Broken => "no witness".to_owned(),
        Answer::Free => "free".to_owned(),
        Answer::Holds { node, left, .. } => {
            let is_holder = lease.holder.is_some_and(|holder| holder.node == *node);
            let left = of::seconds(*left);
            if is_holder { left } else { format!("{left} for {}", of::node_name(overview, *node)) }
        }
        Answer::OtherStore => "other store".to_owned(),
        Answer::Promised(node) => format!("promised to {}", of::node_name(overview, *node)),
        Answer::Removed => "removed".to_owned(),
        Answer::Silent(_) => "silent".to_owned(),
    };
    let part = match witness.part {
        Part::Joins => " (joins)",
        Part::Leaves => " (leaves)",
        Part::Stays => "",
    };
    format!("{name} {answer}{part}")
}

/// What there is to say beside the table, and what to do about it; nothing while all is well.
pub(crate) fn remarks(lease: &Lease, overview: &Overview) -> Vec<String> {
    let name = &lease.name;
    let mut remarks = Vec::new();
    match &lease.holder {
        None => {
            let since = lease.free_for.map(|ago| format!(", for {} now", of::ago(ago)));
            let since = since.unwrap_or_default();
            remarks.push(format!("{name} has no holder{since}: {}", cause(lease, overview)));
        }
        Some(holder) if !lease.has_quorum() => {
            let (node, left) = (of::node_name(overview, holder.node), of::seconds(holder.left));
            remarks.push(format!(
                "{name} stops on {node} in {left} at the latest: {}",
                lack(lease, overview)
            ));
        }
        Some(holder) if !holder.says_so => {
            let (node, left) = (of::node_name(overview, holder.node), of::seconds(holder.left));
            remarks.push(format!(
                "{name} is held by {node} by the word of its witnesses, and {node} itself does not say so: unless it renews its lease, another node may take over in {left}"
            ));
        }
        Some(_) => {}
    }
    if lease.configuration.next.is_some() {
        remarks.push(format!("{name} {}", change(lease, overview)));
    }
    remarks
}

/// A lease beside the explanation of its slot: who holds it until when, and who may have it next.
pub(crate) fn lines(lease: &Lease, why: &Why, overview: &Overview) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(Holder { node, token, left, .. }) = lease.holder {
        let (name, left) = (of::node_name(overview, node), of::seconds(left));
        lines.push(format!("  {name} holds it by token {token}, for {left} unless it renews"));
        let others = why.candidates.iter().filter(|it| it.rank.is_some() && it.node != node);
        lines.push(others.map(|it| &it.node_name).next().map_or_else(
            || format!("  no other node suits it: if {name} is lost, it stays down"),
            |next| {
                format!(
                    "  {next} is next: it asks when {name} lets go, or in {left} if {name} is lost"
                )
            },
        ));
    }
    let witnesses: Vec<String> =
        lease.witnesses.iter().map(|it| witness(lease, it, overview)).collect();
    lines.push(format!("  its witnesses: {}", witnesses.join(", ")));
    lines.extend(remarks(lease, overview).into_iter().map(|remark| format!("  {remark}")));
    lines
}

/// Why nobody holds the slot, and what to do.
fn cause(lease: &Lease, overview: &Overview) -> String {
    if !lease.has_quorum() {
        return lack(lease, overview);
    }
    if lease.seekers.is_empty() {
        return format!("no node seeks it; agentctl why {} shows what keeps them", lease.name);
    }
    let seeker = |(node, pursuit): &(NodeId, Pursuit)| {
        let node = of::node_name(overview, *node);
        match pursuit {
            Pursuit::Asking | Pursuit::Holding { .. } => format!("{node} asks for it now"),
            Pursuit::Waiting { left } => format!("{node} asks for it in {}", of::seconds(*left)),
        }
    };
    lease.seekers.iter().map(seeker).collect::<Vec<_>>().join(", ")
}

/// Which witnesses are missing, and what to do. Why each does not count stands in the table.
fn lack(lease: &Lease, overview: &Overview) -> String {
    let configuration = &lease.configuration;
    let sets = [Some(&configuration.current), configuration.next.as_ref()];
    let needs: Vec<String> =
        sets.into_iter().flatten().filter_map(|set| need(lease, set, overview)).collect();
    let named = |wanted: fn(&Answer) -> bool| -> Vec<String> {
        let such = lease.witnesses.iter().filter(|it| wanted(&it.answer));
        such.map(|it| of::node_name(overview, it.id.node)).collect()
    };
    let silent = named(|answer| matches!(answer, Answer::Silent(_)));
    let broken = named(|answer| matches!(answer, Answer::Broken));
    let app = lease.name.split('/').next().unwrap_or_default();
    let remedy = if !lease.may_recover() {
        format!(
            "too many are lost for good, so nothing brings it back: agentctl rm {app}, and place it again"
        )
    } else if silent.is_empty() {
        format!("start the agent of {} again, and see its log", either(&broken))
    } else {
        format!("bring {} back: its server, its agent, or the network between", either(&silent))
    };
    format!("{}; {remedy}", needs.join(", and "))
}

/// What one set of witnesses lacks; `None` when enough of it answer.
fn need(lease: &Lease, set: &BTreeSet<WitnessId>, overview: &Overview) -> Option<String> {
    let of_set = lease.witnesses.iter().filter(|it| set.contains(&it.id));
    let n_counting = of_set.filter(|it| it.answer.counts()).count();
    let needed = set.len() / 2 + 1;
    let names: Vec<String> = set.iter().map(|id| of::node_name(overview, id.node)).collect();
    let words = match n_counting {
        0 => "none of them counts".to_owned(),
        1 => "only one of them counts".to_owned(),
        n => format!("only {n} of them count"),
    };
    (n_counting < needed).then(|| {
        if let [only] = names.as_slice() {
            return format!("it needs its one witness {only}");
        }
        format!("it needs {needed} of its witnesses {}, and {words}", names.join(", "))
    })
}

fn either(names: &[String]) -> String {
    names.join(" or ")
}

fn change(lease: &Lease, overview: &Overview) -> String {
    let of_part = |part: Part| {
        let such = lease.witnesses.iter().filter(|it| it.part == part);
        such.map(|it| of::node_name(overview, it.id.node)).collect::<Vec<_>>().join(", ")
    };
    let (joins, leaves) = (of_part(Part::Joins), of_part(Part::Leaves));
    let change = match (joins.as_str(), leaves.as_str()) {
        ("", leaves) => format!("{leaves} leaves"),
        (joins, "") => format!("{joins} joins"),
        (joins, leaves) => format!("{joins} for {leaves}"),
    };
    format!(
        "changes its witnesses: {change}; until that is done it needs most of the old and most of the new"
    )
}

/// A lease as a document.
pub(crate) fn document(lease: &Lease, overview: &Overview) -> json::Lease {
    let holder = lease.holder.as_ref();
    json::Lease {
        slot: lease.name.clone(),
        wanted: lease.wanted,
        holder: holder.map(|holder| of::node_name(overview, holder.node)),
        holder_answers: holder.map(|holder| holder.says_so),
        token: holder.map(|holder| holder.token.0),
        left_ms: holder.map(|holder| of::millis(holder.left)),
        free_for_ms: lease.free_for.map(of::millis),
        lease_ms: of::millis(lease.configuration.ttl),
        witnesses: lease.witnesses.iter().map(|it| witness_document(it, overview)).collect(),
        quorum: lease.has_quorum(),
        seekers: lease.seekers.iter().map(|it| seeker_document(it, overview)).collect(),
        remarks: remarks(lease, overview),
    }
}

fn witness_document(witness: &Witness, overview: &Overview) -> json::LeaseWitness {
    let (mut holder, mut token, mut left_ms, mut reason) = (None, None, None, None);
    let answer = match &witness.answer {
        Answer::Broken => "no witness",
        Answer::Free => "free",
        Answer::Holds { node, token: number, left } => {
            holder = Some(of::node_name(overview, *node));
            (token, left_ms) = (Some(number.0), Some(of::millis(*left)));
            "holds"
        }
        Answer::OtherStore => "other store",
        Answer::Promised(node) => {
            holder = Some(of::node_name(overview, *node));
            "promised"
        }
        Answer::Removed => "removed",
        Answer::Silent(why) => {
            reason = Some(why.clone());
            "silent"
        }
    };
    json::LeaseWitness {
        node: of::node_name(overview, witness.id.node),
        node_id: witness.id.node.to_string(),
        part: match witness.part {
            Part::Joins => "joins",
            Part::Leaves => "leaves",
            Part::Stays => "stays",
        }
        .to_owned(),
        answer: answer.to_owned(),
        holder,
        token,
        left_ms,
        reason,
    }
}

fn seeker_document((node, pursuit): &(NodeId, Pursuit), overview: &Overview) -> json::LeaseSeeker {
    json::LeaseSeeker {
        node: of::node_name(overview, *node),
        asks_in_ms: match pursuit {
            Pursuit::Asking | Pursuit::Holding { .. } => 0,
            Pursuit::Waiting { left } => of::millis(*left),
        },
    }
}
