//! What an app is: the validated form of a manifest.
//!
//! Everything here is either right by its type or checked by the constructor that makes it. An app's specification is signed
//! as a whole; the two parts of a service change at different prices. [`Template`] defines the container: a change makes a new
//! revision and replaces replicas. [`Deploy`] and [`PublishedPort`] steer where and how many, and replace nothing.

mod resource;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

pub use self::resource::{Bytes, Cpu, Reservation};
pub use self::template::{
    HealthTest, Healthcheck, ImageRef, Limits, RestartPolicy, StopSignal, Template,
};
use crate::id::Revision;
use crate::name::{AppName, NodeName, ServiceName};

/// One app: a name and its services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
    /// The app's name, unique in a mesh.
    pub name: AppName,
    /// The services, by name; never empty.
    pub services: BTreeMap<ServiceName, ServiceSpec>,
}

/// One service of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// What defines the container.
    pub template: Template,
    /// Which definition this is; the author raises it exactly when `template` changes.
    pub revision: Revision,
    /// What holds while nodes cannot hear each other. Never changes within one life of an app: a change is a removal, then a placement.
    pub guarantee: Guarantee,
    /// How many replicas, and where.
    pub deploy: Deploy,
    /// The ports under which the service can be reached from outside.
    pub ports: Vec<PublishedPort>,
}

/// What a service promises while nodes cannot hear each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guarantee {
    /// Each side serves: a slot may run twice for as long as a split lasts.
    #[default]
    Available,
    /// A slot never runs twice: whoever cannot reach most of its witnesses stops.
    Exclusive {
        /// How long a lease of a slot holds without a renewal (T); [`crate::lease::exclusive::Timing::of`] takes it.
        ttl: Duration,
    },
}

impl Guarantee {
    /// Whether a slot never runs twice.
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        matches!(self, Self::Exclusive { .. })
    }
}

/// The most replicas one service may have. Bounds what a single record can ask of every agent.
pub const REPLICAS_MAX: u32 = 1_000;

/// How many replicas a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// This many, at most [`REPLICAS_MAX`], wherever there is room.
    Replicated(u32),
    /// One on every suitable node, new nodes included.
    Global,
}

/// How many replicas, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// How many.
    pub mode: Mode,
    /// What a node must satisfy; all of them.
    pub constraints: Vec<Constraint>,
    /// Labels over whose values the replicas are spread, the most important first.
    pub spread: Vec<LabelKey>,
    /// The most replicas of this service on one node; `None` is no limit.
    pub replicas_per_node_max: Option<u32>,
    /// What one replica sets aside on its node.
    pub reservation: Reservation,
}

/// The key of a node's label: letters, digits, `.`, `_`, `-` and `/`, at most 63 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelKey(String);

/// The text is not a label's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a label: use 1 to 63 letters, digits, '.', '_', '-' and '/'")]
pub struct LabelKeyError(pub String);

impl LabelKey {
    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LabelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for LabelKey {
    type Err = LabelKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=63).contains(&text.len());
        if fits && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(LabelKeyError(text.to_owned()))
        }
    }
}

/// The labels of a node.
pub type Labels = BTreeMap<LabelKey, String>;

/// What a constraint looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `node.labels.<key>`; a node without the label has the empty value.
    Label(LabelKey),
    /// `node.name`.
    Name,
    /// `node.id`.
    Id,
}

/// One condition on a node, as Compose writes it: `node.labels.disk==ssd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// What is looked at.
    pub subject: Subject,
    /// True for `==`, false for `!=`.
    pub equal: bool,
    /// What it is compared with.
    pub value: String,
}

/// Why a text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// Neither `==` nor `!=` is there.
    #[error("a constraint is written subject==value or subject!=value")]
    Operator,
    /// The left side is nothing a node has.
    #[error("{0:?} is not known of a node: use node.labels.<label>, node.name or node.id")]
    Subject(String),
    /// The label's key is malformed.
    #[error(transparent)]
    Label(#[from] LabelKeyError),
}

impl Constraint {
    /// Whether a node with these properties satisfies the constraint.
    #[must_use]
    pub fn admits(&self, id: crate::id::NodeId, name: &NodeName, labels: &Labels) -> bool {
        let same = match &self.subject {
            Subject::Label(key) => labels.get(key).map_or("", String::as_str) == self.value,
            Subject::Name => name.as_str() == self.value,
            Subject::Id => id.to_string() == self.value,
        };
        same == self.equal
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Label(key) => write!(f, "node.labels.{key}")?,
            Subject::Name => f.write_str("node.name")?,
            Subject::Id => f.write_str("node.id")?,
        }
        write!(f, "{}{}", if self.equal { "==" } else { "!=" }, self.value)
    }
}

impl std::str::FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (left, equal, right) = match (text.split_once("=="), text.split_once("!=")) {
            (Some((left, right)), None) => (left, true, right),
            (None, Some((left, right))) => (left, false, right),
            _ => return Err(ConstraintError::Operator),
        };
        let subject = match left.trim() {
            "node.name" | "node.hostname" => Subject::Name,
            "node.id" => Subject::Id,
            other => match other.strip_prefix("node.labels.") {
                Some(key) => Subject::Label(key.parse()?),
                None => return Err(ConstraintError::Subject(other.to_owned())),
            },
        };
        Ok(Self { subject, equal, value: right.trim().to_owned() })
    }
}

/// Which protocol a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A stream.
    Tcp,
    /// Datagrams; only as a node's own port.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Who listens on a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublishMode {
    /// The agent of every node, which forwards to any ready replica.
    Mesh,
    /// The node of a replica only; two slots that want the same port cannot share a node.
    Host,
}

/// A port of the container that can be reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedPort {
    /// The port on the nodes, never zero.
    pub published: u16,
    /// The port in the container, never zero.
    pub target: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Who listens.
    pub mode: PublishMode,
}

impl AppSpec {
    /// The specification of `service`, if the app has one of that name.
    #[must_use]
    pub fn service(&self, service: &ServiceName) -> Option<&ServiceSpec> {
        self.services.get(service)
    }

    /// The digests of all images that the app needs.
    #[must_use]
    pub fn images(&self) -> BTreeSet<&str> {
        self.services.values().map(|service| service.template.image.digest.as_str()).collect()
    }
}

impl ServiceSpec {
    /// The ports that a replica takes from its node for itself.
    pub fn host_ports(&self) -> impl Iterator<Item = (u16, Protocol)> + '_ {
        let own = self.ports.iter().filter(|port| port.mode == PublishMode::Host);
        own.map(|port| (port.published, port.protocol))
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
