//! What Compose knows and this version does not, each with what to do instead.
//!
//! A key is honoured or it is here; what is nowhere is unknown and refused as such. Nothing is ignored in silence.

type Refusals = &'static [(&'static str, &'static str)];

/// Keys beside `services`.
pub(crate) const APP: Refusals = &[
    ("include", "write the services of the other file into this one"),
    ("networks", "leave it out: services reach each other by published ports"),
    ("volumes", DATA),
    ("secrets", "pass the value as a variable: environment or env_file"),
    ("configs", "put the file into the image, or pass the value as a variable"),
    ("models", "run the model as a service, and pass its address as a variable"),
    ("x-mesh", "it belongs into a service: services.<name>.x-mesh"),
];

const DATA: &str = "leave it out, and keep data outside the mesh: a container's files end with it";
const NETWORK: &str = "leave it out: services reach each other by published ports";
const CPU: &str = "use deploy.resources.limits.cpus";
const PRIVILEGE: &str = "leave it out: containers of a mesh have no extra rights";
const LIMIT: &str =
    "leave it out: only processors, memory and processes are limited (deploy.resources)";
const NAMESPACE: &str = "leave it out: each container has its own namespaces";
const DNS: &str = "leave it out: the mesh resolves names for its containers";
const DEVICE: &str = "leave it out: containers of a mesh have no devices of their node";
const TERMINAL: &str = "leave it out: a replica has no terminal; use agentctl exec -it";
const WINDOWS: &str = "leave it out: it is for Windows only";
const LINKS: &str = "leave it out: services reach each other by their names";

/// Keys of a service.
pub(crate) const SERVICE: Refusals = &[
    ("annotations", "use labels"),
    ("attach", "leave it out: use agentctl logs"),
    ("blkio_config", LIMIT),
    ("build", "build the image, load it with agentctl image push, and name it: image: name:tag"),
    ("cap_add", PRIVILEGE),
    ("cap_drop", "leave it out: containers already run with few rights"),
    ("cgroup", NAMESPACE),
    ("cgroup_parent", NAMESPACE),
    ("configs", "put the file into the image, or pass the value as a variable"),
    ("container_name", "leave it out: replicas are named app/service/index"),
    ("cpu_count", CPU),
    ("cpu_percent", CPU),
    ("cpu_period", CPU),
    ("cpu_quota", CPU),
    ("cpu_rt_period", CPU),
    ("cpu_rt_runtime", CPU),
    ("cpu_shares", "use deploy.resources.reservations.cpus"),
    ("cpus", CPU),
    ("cpuset", CPU),
    ("credential_spec", WINDOWS),
    ("depends_on", "leave it out: let the program try again until what it needs is there"),
    ("develop", "leave it out: it is for development on one machine"),
    ("device_cgroup_rules", DEVICE),
    ("devices", DEVICE),
    ("dns", DNS),
    ("dns_opt", DNS),
    ("dns_search", DNS),
    ("domainname", "use hostname"),
    ("expose", "leave it out: the services of an app reach every port of each other"),
    ("extends", "use a YAML anchor: x-base: &base {…} and <<: *base"),
    ("external_links", LINKS),
    ("extra_hosts", "pass the address as a variable"),
    ("gpus", DEVICE),
    ("group_add", "use user: name:group"),
    ("init", "put an init such as tini into the image"),
    ("ipc", NAMESPACE),
    ("isolation", WINDOWS),
    ("label_file", "write the labels under labels"),
    ("links", LINKS),
    ("logging", "leave it out: the agent keeps logs; use agentctl logs"),
    ("mac_address", NETWORK),
    ("mem_limit", "use deploy.resources.limits.memory"),
    ("mem_reservation", "use deploy.resources.reservations.memory"),
    ("mem_swappiness", LIMIT),
    ("memswap_limit", LIMIT),
    ("models", "run the model as a service, and pass its address as a variable"),
    ("net", NETWORK),
    ("network_mode", NETWORK),
    ("networks", NETWORK),
    ("oom_kill_disable", LIMIT),
    ("oom_score_adj", LIMIT),
    ("pid", NAMESPACE),
    ("pids_limit", "use deploy.resources.limits.pids"),
    ("platform", "load an image of the nodes' platform, and use placement.constraints"),
    ("post_start", "do it in the image's entry point"),
    ("pre_stop", "do it when the program gets stop_signal"),
    ("privileged", PRIVILEGE),
    ("profiles", "leave it out: put optional services into an app of their own"),
    ("provider", "run it outside, and pass its address as a variable"),
    ("pull_policy", "leave it out: images come from the mesh, by digest"),
    ("pull_refresh_after", "leave it out: images come from the mesh, by digest"),
    ("read_only", "leave it out: a container's files end with it"),
    ("runtime", "leave it out: the node's agent runs the containers"),
    ("scale", "use deploy.replicas"),
    ("secrets", "pass the value as a variable: environment or env_file"),
    ("security_opt", PRIVILEGE),
    ("shm_size", LIMIT),
    ("stdin_open", TERMINAL),
    ("storage_opt", LIMIT),
    ("sysctls", PRIVILEGE),
    ("tmpfs", "leave it out: write to a directory of the container, such as /tmp"),
    ("tty", TERMINAL),
    ("ulimits", LIMIT),
    ("use_api_socket", PRIVILEGE),
    ("userns_mode", NAMESPACE),
    ("uts", NAMESPACE),
    ("volume_driver", DATA),
    ("volumes", DATA),
    ("volumes_from", DATA),
];

/// Keys of `deploy`.
pub(crate) const DEPLOY: Refusals = &[
    ("endpoint_mode", "leave it out: a published port leads to any ready replica"),
    ("labels", "use labels of the service"),
    ("restart_policy", "use restart of the service: always, \"no\" or on-failure[:n]"),
    ("rollback_config", "leave it out: place the former manifest to go back"),
    ("update_config", "leave it out: replicas are replaced one after the other"),
];

/// Keys of `deploy.resources.reservations`.
pub(crate) const RESERVATIONS: Refusals = &[
    ("devices", "label the nodes that have the device, and use placement.constraints"),
    ("generic_resources", "label the nodes that have it, and use placement.constraints"),
    ("pids", "use deploy.resources.limits.pids"),
];

/// Keys of `x-mesh`.
pub(crate) const MESH: Refusals = &[
    ("relationships", "leave it out: services reach each other by published ports"),
    ("routes", "publish a port, and lead to it from outside: ports: [\"80:8080\"]"),
];
