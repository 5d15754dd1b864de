//! `deploy`: how many replicas, where, and with which resources.

use mesh_coordinator::spec::{
    Bytes, Constraint, Cpu, Deploy, LabelKey, Limits, Mode, REPLICAS_MAX, Reservation,
};

use crate::amount::{cpus, size, whole};
use crate::refused;
use crate::report::{Fault, Report};
use crate::tree::quoted;
use crate::walk::{At, Table};

/// The least memory that a container may be limited to, as in Docker: with less, most cannot even start.
const MEMORY_LIMIT_MIN: Bytes = Bytes(6 << 20);

/// The most processes that a container may be limited to: what Linux can count.
const PIDS_MAX: u32 = 4_194_304;

/// What holds without a `deploy` key: one replica, anywhere.
pub(crate) const fn default() -> Deploy {
    Deploy {
        mode: Mode::Replicated(1),
        constraints: Vec::new(),
        spread: Vec::new(),
        replicas_per_node_max: None,
        reservation: Reservation { cpu: Cpu { millis: 0 }, memory: Bytes(0) },
    }
}

/// Placement, and the limits that belong to the container.
pub(crate) fn deploy(at: &At<'_>, report: &mut Report) -> (Deploy, Limits) {
    let mut result = default();
    let mut limits = Limits::default();
    let Some(mut table) = at.table(report) else {
        return (result, limits);
    };
    result.mode = mode(&mut table, report);
    if let Some(mut resources) = table.take("resources").and_then(|at| at.table(report)) {
        (limits, result.reservation) = self::resources(&mut resources, report);
        resources.finish(&[], report);
    }
    if let Some(mut placement) = table.take("placement").and_then(|at| at.table(report)) {
        self::placement(&mut placement, &mut result, report);
        placement.finish(&[], report);
    }
    table.finish(refused::DEPLOY, report);
    (result, limits)
}

fn mode(table: &mut Table<'_>, report: &mut Report) -> Mode {
    let parse = |text: &str| match text {
        "replicated" => Ok(false),
        "global" => Ok(true),
        "replicated-job" | "global-job" => {
            let help = "write replicated and restart: \"no\" for something that ends by itself";
            Err(Fault::new(format!("jobs ({text}) are not supported by this version"), help))
        }
        other => {
            let found = format!("the mode {} is unknown", quoted(other));
            Err(Fault::new(found, "write replicated (some replicas) or global (one on every node)"))
        }
    };
    let global = table.take("mode").and_then(|at| at.parse(parse, report)).unwrap_or(false);
    let given = table.take("replicas");
    if !global {
        let count = |text: &str| whole(text, 0, REPLICAS_MAX);
        return Mode::Replicated(given.and_then(|at| at.parse(count, report)).unwrap_or(1));
    }
    if let Some(at) = given {
        let help = "leave out replicas, or write mode: replicated";
        at.refuse_key("a global service has one replica on every suitable node", help, report);
    }
    Mode::Global
}

fn resources(table: &mut Table<'_>, report: &mut Report) -> (Limits, Reservation) {
    let mut limits = Limits::default();
    if let Some(mut table) = table.take("limits").and_then(|at| at.table(report)) {
        limits.cpu = table.take("cpus").and_then(|at| at.parse(cpu_limit, report));
        limits.memory = table.take("memory").and_then(|at| at.parse(memory_limit, report));
        let pids = |text: &str| whole(text, 1, PIDS_MAX);
        limits.pids = table.take("pids").and_then(|at| at.parse(pids, report));
        table.finish(&[], report);
    }
    let mut reservation = default().reservation;
    let Some(mut table) = table.take("reservations").and_then(|at| at.table(report)) else {
        return (limits, reservation);
    };
    if let Some(at) = table.take("cpus") {
        reservation.cpu = at.parse(cpus, report).unwrap_or_default();
        if let Some(limit) = limits.cpu.filter(|limit| *limit < reservation.cpu) {
            let found = format!("{} processors are reserved and {limit} allowed", reservation.cpu);
            at.refuse(found, "reserve at most the limit", report);
        }
    }
    if let Some(at) = table.take("memory") {
        reservation.memory = at.parse(size, report).unwrap_or_default();
        if let Some(limit) = limits.memory.filter(|limit| *limit < reservation.memory) {
            let found = format!("{} are reserved and {limit} allowed", reservation.memory);
            at.refuse(found, "reserve at most the limit", report);
        }
    }
    table.finish(refused::RESERVATIONS, report);
    (limits, reservation)
}

fn cpu_limit(text: &str) -> Result<Cpu, Fault> {
    match cpus(text)? {
        Cpu { millis: 0 } => {
            Err(Fault::new("a limit of no processor lets nothing run", "leave it out for no limit"))
        }
        cpu => Ok(cpu),
    }
}

fn memory_limit(text: &str) -> Result<Bytes, Fault> {
    let limit = size(text)?;
    if limit >= MEMORY_LIMIT_MIN {
        return Ok(limit);
    }
    let found = format!("a limit of {limit} is too little to start anything");
    Err(Fault::new(found, "at least 6m; leave it out for no limit"))
}

fn placement(table: &mut Table<'_>, result: &mut Deploy, report: &mut Report) {
    if let Some(at) = table.take("constraints") {
        let items = at.list(report).unwrap_or_default();
        result.constraints =
            items.iter().filter_map(|item| item.parse(constraint, report)).collect();
    }
    let global = result.mode == Mode::Global;
    let help = "leave it out: a global service has one replica on every suitable node";
    if let Some(at) = table.take("preferences") {
        if global {
            at.refuse_key("a global service cannot be spread", help, report);
        } else {
            result.spread = preferences(&at, report);
        }
    }
    if let Some(at) = table.take("max_replicas_per_node") {
        if global {
            at.refuse_key("a global service has no such limit", help, report);
        } else {
            let parse = |text: &str| whole(text, 1, REPLICAS_MAX);
            result.replicas_per_node_max = at.parse(parse, report);
        }
    }
}

fn constraint(text: &str) -> Result<Constraint, Fault> {
    text.parse().map_err(|error: mesh_coordinator::spec::ConstraintError| {
        let found = format!("{} is not a constraint", quoted(text));
        Fault::new(found, error.to_string())
    })
}

fn preferences(at: &At<'_>, report: &mut Report) -> Vec<LabelKey> {
    let mut spread: Vec<LabelKey> = Vec::new();
    for item in at.list(report).unwrap_or_default() {
        let Some(mut table) = item.table(report) else {
            continue;
        };
        let given = table.take("spread");
        table.finish(&[], report);
        let Some(given) = given else {
            item.refuse("the preference has no spread", "write spread: node.labels.zone", report);
            continue;
        };
        let Some(key) = given.parse(label, report) else {
            continue;
        };
        if spread.contains(&key) {
            given.refuse(format!("{key} is given twice"), "leave out one", report);
        } else {
            spread.push(key);
        }
    }
    spread
}

fn label(text: &str) -> Result<LabelKey, Fault> {
    let Some(key) = text.strip_prefix("node.labels.") else {
        let found = format!("{} is nothing to spread over", quoted(text));
        return Err(Fault::new(found, "write node.labels.<label>, such as node.labels.zone"));
    };
    key.parse().map_err(|error: mesh_coordinator::spec::LabelKeyError| {
        Fault::new(error.to_string(), "write node.labels.<label>, such as node.labels.zone")
    })
}
