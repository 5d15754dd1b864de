//! What operators place: one kind of service for each thing that placement has to respect.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_coordinator::id::{Hash, Revision};
use mesh_coordinator::lease::exclusive::Timing;
use mesh_coordinator::name::ServiceName;
use mesh_coordinator::spec::{
    AppSpec, Bytes, Cpu, Deploy, Guarantee, HealthTest, Healthcheck, ImageRef, LabelKey, Labels,
    Limits, Mode, Protocol, PublishMode, PublishedPort, Reservation, RestartPolicy, ServiceSpec,
    StopSignal, Template,
};

use super::World;

const MIB: u64 = 1 << 20;

impl World {
    /// The labels of a node, drawn.
    pub(crate) fn some_labels(&mut self) -> Labels {
        let disk = if self.rng.chance(600) { "ssd" } else { "hdd" };
        let zone = ["a", "b", "c"][self.rng.below(3) as usize];
        Labels::from([(label("disk"), disk.to_owned()), (label("zone"), zone.to_owned())])
    }

    pub(super) fn new_services(&mut self, app: u64) -> BTreeMap<ServiceName, ServiceSpec> {
        let n_services = 1 + self.rng.below(2);
        (0..n_services)
            .map(|number| {
                let name: ServiceName = format!("s{number}").parse().expect("a name");
                (name, self.new_service(app))
            })
            .collect()
    }

    /// A service whose replicas never run twice.
    pub(super) fn exclusive_services(
        &mut self,
        replicas: u32,
        ttl: Duration,
    ) -> BTreeMap<ServiceName, ServiceSpec> {
        let mut services = self.plain_services(replicas);
        for service in services.values_mut() {
            service.guarantee = Guarantee::Exclusive { ttl };
        }
        services
    }

    pub(super) fn plain_services(&mut self, replicas: u32) -> BTreeMap<ServiceName, ServiceSpec> {
        let mut spec = self.plain_service(0);
        spec.template.healthcheck = None;
        spec.deploy.mode = Mode::Replicated(replicas);
        BTreeMap::from([("s0".parse().expect("a name"), spec)])
    }

    /// Services of which many replicas fit on a node.
    pub(crate) fn small_services(&mut self, replicas: u32) -> BTreeMap<ServiceName, ServiceSpec> {
        let mut services = self.plain_services(replicas);
        for service in services.values_mut() {
            service.deploy.reservation =
                Reservation { cpu: Cpu { millis: 10 }, memory: Bytes(16 * MIB) };
        }
        services
    }

    fn new_service(&mut self, app: u64) -> ServiceSpec {
        let mut spec = self.plain_service(app);
        if self.plan.exclusive && self.rng.chance(700) {
            let ttl = if self.rng.chance(500) { Timing::TTL_MIN } else { Timing::DEFAULT_TTL };
            spec.guarantee = Guarantee::Exclusive { ttl };
        }
        match self.rng.below(8) {
            0 if !spec.guarantee.is_exclusive() => spec.deploy.mode = Mode::Global,
            1 => spec.deploy.constraints = vec!["node.labels.disk==ssd".parse().expect("valid")],
            2 => spec.deploy.spread = vec![label("zone")],
            3 => spec.deploy.replicas_per_node_max = Some(1),
            4 => {
                spec.ports = vec![PublishedPort {
                    published: 8_000 + app as u16,
                    target: 80,
                    protocol: Protocol::Tcp,
                    mode: PublishMode::Host,
                }];
            }
            5 => {
                spec.template.restart = RestartPolicy::OnFailure { attempts_max: Some(5) };
                spec.template.healthcheck = None;
            }
            _ => {}
        }
        spec
    }

    fn plain_service(&mut self, app: u64) -> ServiceSpec {
        let replicas = 1 + self.rng.below(4) as u32;
        let checked = self.rng.chance(500);
        let cpu = if self.plan.roomy { 100 } else { 300 };
        ServiceSpec {
            template: template(app, checked),
            revision: revision(1, self.rng.next_u64()),
            guarantee: Guarantee::Available,
            deploy: Deploy {
                mode: Mode::Replicated(replicas),
                constraints: Vec::new(),
                spread: Vec::new(),
                replicas_per_node_max: None,
                reservation: Reservation { cpu: Cpu { millis: cpu }, memory: Bytes(64 * MIB) },
            },
            ports: Vec::new(),
        }
    }

    /// The next release: mostly another definition, sometimes only another place.
    pub(super) fn next_release(&mut self, mut spec: AppSpec) -> AppSpec {
        let number = self.rng.next_u64();
        for service in spec.services.values_mut() {
            match self.rng.below(4) {
                0 => {}
                1 => service.deploy.spread = vec![label("zone")],
                _ => {
                    service.template.environment.insert("RELEASE".to_owned(), number.to_string());
                    service.revision = revision(service.revision.number + 1, number);
                }
            }
        }
        spec
    }
}

fn revision(number: u64, content: u64) -> Revision {
    Revision { number, id: Hash::of(&[&number.to_be_bytes(), &content.to_be_bytes()]).head() }
}

fn label(key: &str) -> LabelKey {
    key.parse().expect("a label")
}

fn template(app: u64, checked: bool) -> Template {
    Template {
        image: ImageRef { name: format!("image{app}"), digest: format!("sha256:{app:064x}") },
        entrypoint: None,
        command: None,
        environment: BTreeMap::new(),
        working_dir: None,
        user: None,
        hostname: None,
        labels: BTreeMap::new(),
        restart: RestartPolicy::Always,
        healthcheck: checked.then(|| Healthcheck {
            test: HealthTest::Exec(vec!["true".to_owned()]),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            retries: 2,
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(1),
        }),
        stop_signal: StopSignal::TERM,
        stop_grace: Duration::from_secs(10),
        limits: Limits::default(),
    }
}
