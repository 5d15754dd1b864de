//! A service for tests, which change what they are about.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    Bytes, Cpu, Deploy, Guarantee, ImageRef, Limits, Mode, Reservation, RestartPolicy, ServiceSpec,
    StopSignal, Template,
};
use crate::id::Revision;

/// A service without a health check that asks for little.
pub(crate) fn service(revision: Revision, replicas: u32) -> ServiceSpec {
    ServiceSpec {
        template: Template {
            image: ImageRef { name: "image".to_owned(), digest: "sha256:0".to_owned() },
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            working_dir: None,
            user: None,
            hostname: None,
            labels: BTreeMap::new(),
            restart: RestartPolicy::Always,
            healthcheck: None,
            stop_signal: StopSignal::TERM,
            stop_grace: Duration::from_secs(10),
            limits: Limits::default(),
        },
        revision,
        guarantee: Guarantee::Available,
        deploy: Deploy {
            mode: Mode::Replicated(replicas),
            constraints: Vec::new(),
            spread: Vec::new(),
            replicas_per_node_max: None,
            reservation: Reservation { cpu: Cpu { millis: 1 }, memory: Bytes(1) },
        },
        ports: Vec::new(),
    }
}
