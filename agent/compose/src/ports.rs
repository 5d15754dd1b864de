//! `ports`: which ports of a service can be reached from outside, in Compose's short and long form.
//!
//! A port that the mesh publishes is listened on by every node, so it needs a fixed number: Compose's "any free port" would
//! be another one on each node, and nobody could know it.

use std::collections::BTreeMap;

use mesh_coordinator::spec::{Protocol, PublishMode, PublishedPort};

use crate::amount::whole;
use crate::report::{Fault, Report};
use crate::tree::{Span, quoted};
use crate::walk::At;

/// The most ports of one service; bounds what a range can ask of every node.
const PORTS_MAX: usize = 128;

/// A port, and where the manifest asks for it.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) port: PublishedPort,
    path: String,
    span: Span,
}

/// The ports of a service.
pub(crate) fn ports(at: &At<'_>, report: &mut Report) -> Vec<Placed> {
    let mut ports = Vec::new();
    for item in at.list(report).unwrap_or_default() {
        let found = if item.is_map() { long(&item, report) } else { item.parse(short, report) };
        ports.extend(found.unwrap_or_default().into_iter().map(|port| Placed {
            port,
            path: item.path.clone(),
            span: item.span(),
        }));
    }
    if ports.len() > PORTS_MAX {
        let found = format!("the service publishes {} ports", ports.len());
        at.refuse(found, format!("at most {PORTS_MAX}"), report);
        ports.truncate(PORTS_MAX);
    }
    ports
}

/// Refuses ports of an app that would get in each other's way on a node.
pub(crate) fn check_conflicts(ports: &[Vec<Placed>], report: &mut Report) {
    let mut taken: BTreeMap<(u16, Protocol), (usize, &Placed)> = BTreeMap::new();
    for (service, placed) in
        ports.iter().enumerate().flat_map(|(n, list)| list.iter().map(move |p| (n, p)))
    {
        let key = (placed.port.published, placed.port.protocol);
        let Some((other, first)) = taken.get(&key) else {
            taken.insert(key, (service, placed));
            continue;
        };
        // Two services may both want the same port of their node: they then run on different nodes.
        let host = [placed, *first].iter().all(|placed| placed.port.mode == PublishMode::Host);
        if host && *other != service {
            continue;
        }
        let found = format!("the port {} is already published by {}", key.0, first.path);
        report.error(&placed.path, placed.span, Fault::new(found, "choose another published port"));
    }
}

/// A port as the mesh publishes it.
const fn mesh_port(published: u16, target: u16) -> PublishedPort {
    PublishedPort { published, target, protocol: Protocol::Tcp, mode: PublishMode::Mesh }
}

/// `published:target`, both a number or a range, with `/tcp` if one likes.
pub(crate) fn short(text: &str) -> Result<Vec<PublishedPort>, Fault> {
    let (numbers, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    match protocol {
        "tcp" => {}
        "udp" => {
            let found = format!("{} publishes UDP, which only a node's own port can", quoted(text));
            let help = "write {target: 53, published: 53, protocol: udp, mode: host}";
            return Err(Fault::new(found, help));
        }
        other => {
            let found = format!("the protocol {} is not supported", quoted(other));
            return Err(Fault::new(found, "write tcp, or udp with mode: host"));
        }
    }
    let (published, target) = match numbers.rsplit_once(':') {
        Some((left, _)) if left.contains([':', '[', '.']) => {
            let found = format!("{} binds to one address", quoted(text));
            let target = numbers.rsplit(':').next().unwrap_or_default();
            let port = left.rsplit(':').next().filter(|port| !port.is_empty()).unwrap_or(target);
            let help =
                format!("every node listens on all its addresses: write \"{port}:{target}\"");
            return Err(Fault::new(found, help));
        }
        Some((published, target)) => (published, target),
        None => ("", numbers),
    };
    let targets = range(target, text)?;
    if published.is_empty() || published == "0" {
        let found = format!("{} leaves the published port to chance", quoted(text));
        let help = format!("every node listens on it, so choose one: write \"{target}:{target}\"");
        return Err(Fault::new(found, help));
    }
    let published = range(published, text)?;
    if published.len() != targets.len() {
        let found = format!("{} has ranges of different lengths", quoted(text));
        return Err(Fault::new(found, "write ranges of one length, such as 8000-8010:8000-8010"));
    }
    Ok(published.zip(targets).map(|(published, target)| mesh_port(published, target)).collect())
}

/// A port or a range of ports.
fn range(text: &str, whole_text: &str) -> Result<std::ops::RangeInclusive<u16>, Fault> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| port(text, &quoted(whole_text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        let found = format!("the range {} runs backwards", quoted(text));
        return Err(Fault::new(found, format!("write {last}-{first}")));
    }
    if usize::from(last - first) >= PORTS_MAX {
        let found = format!("the range {} has {} ports", quoted(text), u32::from(last - first) + 1);
        return Err(Fault::new(found, format!("at most {PORTS_MAX}")));
    }
    Ok(first..=last)
}

/// A port's number, as a part of `context`.
fn port(text: &str, context: &str) -> Result<u16, Fault> {
    let number =
        whole(text, 1, u32::from(u16::MAX)).ok().and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| {
        let found = match text {
            "" => format!("{context} lacks a port"),
            text if quoted(text) == context => format!("{context} is not a port"),
            text => format!("{} in {context} is not a port", quoted(text)),
        };
        Fault::new(found, "a port is a number from 1 to 65535")
    })
}

/// `{target, published, protocol, mode}`.
fn long(at: &At<'_>, report: &mut Report) -> Option<Vec<PublishedPort>> {
    let mut table = at.table(report)?;
    let number = |text: &str| {
        if text.contains('-') {
            let found = format!("{} is a range", quoted(text));
            return Err(Fault::new(found, "write one port here, or the range in the short form"));
        }
        port(text, &quoted(text))
    };
    let given_target = table.take("target");
    let target = given_target.as_ref().and_then(|at| at.parse(number, report));
    let given_published = table.take("published");
    let published = given_published.as_ref().and_then(|at| at.parse(number, report));
    let given_protocol = table.take("protocol");
    let protocol =
        given_protocol.as_ref().map_or(Some(Protocol::Tcp), |at| at.parse(protocol, report));
    let mode = table.take("mode").map_or(Some(PublishMode::Mesh), |at| at.parse(mode, report));
    for key in ["name", "app_protocol"] {
        if let Some(at) = table.take(key) {
            at.warn("has no effect here", "it is only a note for people; leave it out", report);
        }
    }
    table.finish(REFUSED, report);
    if given_target.is_none() {
        at.refuse("the port has no target", "write target: 80, the port in the container", report);
    }
    if given_published.is_none() {
        let help = "write published: 8080, the port on the nodes";
        at.refuse("the port has no published port", help, report);
    }
    let (protocol, mode) = (protocol?, mode?);
    if let (Protocol::Udp, PublishMode::Mesh, Some(at)) = (protocol, mode, &given_protocol) {
        let found = "UDP is published only as a node's own port";
        at.refuse(found, "add mode: host, or use tcp", report);
    }
    Some(vec![PublishedPort { published: published?, target: target?, protocol, mode }])
}

const REFUSED: &[(&str, &str)] =
    &[("host_ip", "leave it out: a published port is listened on at all addresses of a node")];

fn protocol(text: &str) -> Result<Protocol, Fault> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        other => {
            let found = format!("the protocol {} is not supported", quoted(other));
            Err(Fault::new(found, "write tcp, or udp with mode: host"))
        }
    }
}

fn mode(text: &str) -> Result<PublishMode, Fault> {
    match text {
        "ingress" => Ok(PublishMode::Mesh),
        "host" => Ok(PublishMode::Host),
        other => {
            let found = format!("the mode {} is unknown", quoted(other));
            let help = "write ingress (every node listens) or host (only the replica's node)";
            Err(Fault::new(found, help))
        }
    }
}

#[cfg(test)]
mod tests;
