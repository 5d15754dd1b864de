//! What an app is.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_coordinator::lease::exclusive::Timing;
use mesh_coordinator::name::ServiceName;
use mesh_coordinator::spec::{
    AppSpec, Constraint, Deploy, Guarantee, Mode, Protocol, PublishMode, PublishedPort,
    REPLICAS_MAX, ServiceSpec, Subject,
};
use mesh_proto::v1;

use super::{
    Fault, Within as _, limit, parsed, plain, read_reservation, read_revision, required, template,
    write_reservation, write_revision,
};

pub(crate) fn write(spec: &AppSpec) -> v1::AppSpec {
    v1::AppSpec {
        name: spec.name.to_string(),
        services: spec.services.iter().map(|(name, spec)| write_service(name, spec)).collect(),
    }
}

pub(crate) fn read(spec: v1::AppSpec) -> Result<AppSpec, Fault> {
    let name = parsed("name", &spec.name)?;
    let mut services = BTreeMap::new();
    for service in spec.services {
        let name: ServiceName = parsed("services", &service.name)?;
        let path = format!("services.{name}");
        if services.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(Fault::new(&path, "comes twice or out of order"));
        }
        let service = read_service(service).within(&path)?;
        services.insert(name, service);
    }
    if services.is_empty() {
        return Err(Fault::new("services", "there is none"));
    }
    Ok(AppSpec { name, services })
}

/// How many replicas a service is to have; at most [`REPLICAS_MAX`].
pub(crate) fn replicas(field: &str, number: u32) -> Result<u32, Fault> {
    if number <= REPLICAS_MAX {
        Ok(number)
    } else {
        Err(Fault::new(field, format!("{number} are more than {REPLICAS_MAX}")))
    }
}

fn write_service(name: &ServiceName, spec: &ServiceSpec) -> v1::ServiceSpec {
    v1::ServiceSpec {
        name: name.to_string(),
        template: Some(template::write(&spec.template)),
        revision: Some(write_revision(spec.revision)),
        deploy: Some(write_deploy(&spec.deploy)),
        ports: spec.ports.iter().map(write_port).collect(),
        exclusive: match spec.guarantee {
            Guarantee::Available => None,
            Guarantee::Exclusive { ttl } => Some(v1::Exclusive { ttl_ms: millis(ttl) }),
        },
    }
}

/// Whole milliseconds; what is longer than any lease is refused by whoever reads it.
fn millis(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX)
}

fn read_service(service: v1::ServiceSpec) -> Result<ServiceSpec, Fault> {
    let template = required("template", service.template)?;
    let deploy = required("deploy", service.deploy)?;
    let ports = service.ports.into_iter().map(read_port).collect::<Result<_, _>>();
    let spec = ServiceSpec {
        template: template::read(template).within("template")?,
        revision: read_revision(service.revision)?,
        guarantee: read_guarantee(service.exclusive).within("exclusive")?,
        deploy: read_deploy(deploy).within("deploy")?,
        ports: ports.within("ports")?,
    };
    if spec.guarantee.is_exclusive() && spec.deploy.mode == Mode::Global {
        // A slot that belongs to one node has nobody to be kept from.
        return Err(Fault::new("exclusive", "a global service cannot be exclusive"));
    }
    Ok(spec)
}

fn read_guarantee(exclusive: Option<v1::Exclusive>) -> Result<Guarantee, Fault> {
    let Some(v1::Exclusive { ttl_ms }) = exclusive else { return Ok(Guarantee::Available) };
    let ttl = Duration::from_millis(ttl_ms.into());
    match Timing::of(ttl) {
        Ok(_) => Ok(Guarantee::Exclusive { ttl }),
        Err(broken) => Err(Fault::new("ttl_ms", broken.to_string())),
    }
}

fn write_deploy(deploy: &Deploy) -> v1::Deploy {
    v1::Deploy {
        mode: Some(match deploy.mode {
            Mode::Replicated(number) => v1::deploy::Mode::Replicated(number),
            Mode::Global => v1::deploy::Mode::Global(true),
        }),
        constraints: deploy.constraints.iter().map(write_constraint).collect(),
        spread: deploy.spread.iter().map(ToString::to_string).collect(),
        replicas_per_node_max: deploy.replicas_per_node_max,
        reservation: Some(write_reservation(deploy.reservation)),
    }
}

fn read_deploy(deploy: v1::Deploy) -> Result<Deploy, Fault> {
    let mode = match required("mode", deploy.mode)? {
        v1::deploy::Mode::Replicated(number) => Mode::Replicated(replicas("replicas", number)?),
        v1::deploy::Mode::Global(true) => Mode::Global,
        v1::deploy::Mode::Global(false) => return Err(Fault::new("mode", "is not global")),
    };
    let constraints = deploy.constraints.into_iter().map(read_constraint);
    let spread = deploy.spread.iter().map(|key| parsed("spread", key));
    Ok(Deploy {
        mode,
        constraints: constraints.collect::<Result<_, _>>().within("constraints")?,
        spread: spread.collect::<Result<_, _>>()?,
        replicas_per_node_max: limit("replicas_per_node_max", deploy.replicas_per_node_max)?,
        reservation: read_reservation("reservation", deploy.reservation)?,
    })
}

fn write_constraint(constraint: &Constraint) -> v1::Constraint {
    let (subject, label) = match &constraint.subject {
        Subject::Label(key) => (v1::constraint::Subject::Label, key.to_string()),
        Subject::Name => (v1::constraint::Subject::Name, String::new()),
        Subject::Id => (v1::constraint::Subject::Id, String::new()),
    };
    let (equal, value) = (constraint.equal, constraint.value.clone());
    v1::Constraint { subject: subject.into(), label, equal, value }
}

fn read_constraint(constraint: v1::Constraint) -> Result<Constraint, Fault> {
    let subject = match constraint.subject() {
        v1::constraint::Subject::Label => Subject::Label(parsed("label", &constraint.label)?),
        v1::constraint::Subject::Name => Subject::Name,
        v1::constraint::Subject::Id => Subject::Id,
        v1::constraint::Subject::Unspecified => {
            return Err(Fault::new("subject", "is none that is known here"));
        }
    };
    let value = plain("value", constraint.value)?;
    Ok(Constraint { subject, equal: constraint.equal, value })
}

fn write_port(port: &PublishedPort) -> v1::PublishedPort {
    let protocol = match port.protocol {
        Protocol::Tcp => v1::published_port::Protocol::Tcp,
        Protocol::Udp => v1::published_port::Protocol::Udp,
    };
    let mode = match port.mode {
        PublishMode::Mesh => v1::published_port::Mode::Mesh,
        PublishMode::Host => v1::published_port::Mode::Host,
    };
    v1::PublishedPort {
        published: u32::from(port.published),
        target: u32::from(port.target),
        protocol: protocol.into(),
        mode: mode.into(),
    }
}

fn read_port(port: v1::PublishedPort) -> Result<PublishedPort, Fault> {
    let unknown = |field: &str| Err(Fault::new(field, "is none that is known here"));
    let protocol = match port.protocol() {
        v1::published_port::Protocol::Tcp => Protocol::Tcp,
        v1::published_port::Protocol::Udp => Protocol::Udp,
        v1::published_port::Protocol::Unspecified => return unknown("protocol"),
    };
    let mode = match port.mode() {
        v1::published_port::Mode::Mesh => PublishMode::Mesh,
        v1::published_port::Mode::Host => PublishMode::Host,
        v1::published_port::Mode::Unspecified => return unknown("mode"),
    };
    if (protocol, mode) == (Protocol::Udp, PublishMode::Mesh) {
        return Err(Fault::new("mode", "datagrams are published only on a node's own port"));
    }
    let published = port_number("published", port.published)?;
    let target = port_number("target", port.target)?;
    Ok(PublishedPort { published, target, protocol, mode })
}

fn port_number(field: &str, number: u32) -> Result<u16, Fault> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| Fault::new(field, format!("{number} is not a port, 1 to 65535")))
}
