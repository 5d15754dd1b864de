//! A node for one test, with a cgroup and directories of its own, and a look at what it left behind.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_coordinator::id::{AppUid, Revision, SlotId, SlotIndex};
use mesh_coordinator::spec::{ImageRef, Limits, RestartPolicy, StopSignal, Template};
use mesh_ports::network::{AttachError, ContainerNetwork, HostPort};
use mesh_ports::runtime::{
    Container, ContainerId, Ended, Event, Events, Exit, Found, ImageError, LogQuery, Output,
    Runtime, State, Tag,
};
use mesh_runtime::embedded::{Config, Driver, Images};
use mesh_runtime::image::{self, Rootfs};
use mesh_runtime::{LogLimits, doctor};
use mesh_telemetry::Tasks;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Nothing here takes longer on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static NODES: AtomicU32 = AtomicU32::new(0);

/// A network of namespaces with nothing in them but the way of a process to itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bare {
    pub(crate) adopted: Arc<Mutex<Vec<(String, Ipv4Addr)>>>,
    pub(crate) swept: Arc<Mutex<Vec<String>>>,
}

impl ContainerNetwork for Bare {
    async fn attach(
        &self,
        _container: &str,
        namespace: &Path,
        _ports: &[HostPort],
    ) -> Result<Ipv4Addr, AttachError> {
        if !namespace.exists() {
            fs::write(namespace, "").expect("made");
            let namespace = namespace.to_path_buf();
            // A thread of its own: a namespace belongs to a thread.
            let made = std::thread::spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                loopback_up();
                let own = Path::new("/proc/thread-self/ns/net");
                mount(Some(own), &namespace, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            });
            made.join().expect("no panic").expect("a namespace");
        }
        Ok(Ipv4Addr::new(10, 99, 0, 2))
    }

    async fn detach(&self, _container: &str, namespace: &Path) {
        let (Ok(()) | Err(_)) = umount2(namespace, MntFlags::MNT_DETACH);
        let (Ok(()) | Err(_)) = fs::remove_file(namespace);
    }

    async fn adopt(&self, container: &str, address: Ipv4Addr) {
        self.adopted.lock().expect("whole").push((container.to_owned(), address));
    }

    async fn sweep(&self, alive: &[String]) {
        *self.swept.lock().expect("whole") = alive.to_vec();
    }
}

/// Lets processes of this thread's network talk to themselves.
#[expect(unsafe_code, reason = "a device's flags are set by a raw call")]
fn loopback_up() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // SAFETY: the structure is numbers only, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).expect("a flag");
    // SAFETY: the structure outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[derive(Debug, Clone)]
struct OneImage(Rootfs);

pub(crate) const DIGEST: &str = "sha256:payload";

impl Images for OneImage {
    fn rootfs_of(&self, digest: &str) -> Result<Rootfs, ImageError> {
        if digest == DIGEST {
            Ok(self.0.clone())
        } else {
            Err(ImageError::Missing(digest.to_owned()))
        }
    }
}

/// A node.
pub(crate) struct Node {
    pub(crate) driver: Driver<Bare>,
    pub(crate) events: Events,
    pub(crate) network: Bare,
    pub(crate) config: Config,
    image: OneImage,
    tasks: Tasks,
}

/// A node whose agent is dead.
pub(crate) struct Away {
    pub(crate) config: Config,
    image: OneImage,
}

impl Away {
    /// The agent's next life.
    pub(crate) async fn come_back(self) -> Node {
        Node::open(self.config, self.image).await
    }
}

/// Runs a test on a node of its own and cleans up, also after a panic.
pub(crate) fn on_a_node<F>(test: impl FnOnce(Node) -> F)
where
    F: Future<Output = Node>,
{
    on_a_node_with(|_config| {}, test);
}

/// The same with other settings.
pub(crate) fn on_a_node_with<F>(change: impl FnOnce(&mut Config), test: impl FnOnce(Node) -> F)
where
    F: Future<Output = Node>,
{
    let dir = tempfile::tempdir().expect("a directory");
    let number = NODES.fetch_add(1, Ordering::SeqCst);
    let mut config = Config {
        root: dir.path().join("containers"),
        run: dir.path().join("run"),
        cgroup_parent: format!("/mesh-test-{}-{number}/node", std::process::id()),
        shim: vec![env!("CARGO_BIN_EXE_mesh-shim").into()],
        capacity: None,
        log: LogLimits { bytes_max: 64 << 10, files_max: 3 },
        start_max: Config::START_MAX,
        nameservers: Vec::new(),
    };
    change(&mut config);
    let needs = doctor::examine(&config);
    if !needs.is_empty() {
        let (Ok(()) | Err(_)) = writeln!(io::stderr(), "skipped: {needs:?}");
        return;
    }
    let image = OneImage(make_image(&dir.path().join("image")));
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = threads.expect("a runtime");
    let ended = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let node = Node::open(config.clone(), image.clone()).await;
            let node = tokio::time::timeout(PATIENCE * 2, test(node)).await.expect("in time");
            drop(node);
        });
    }));
    runtime.block_on(async {
        let node = Node::open(config.clone(), image).await;
        for found in node.driver.list().await {
            node.driver.remove(&found.id).await.expect("removed");
        }
        node.tasks.stop(PATIENCE).await;
    });
    let left = left_behind(dir.path(), &config);
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn make_image(dir: &Path) -> Rootfs {
    let (lower, upper) = (dir.join("lower"), dir.join("upper"));
    for part in ["lower/etc", "lower/data", "upper/etc"] {
        fs::create_dir_all(dir.join(part)).expect("made");
    }
    fs::copy(env!("CARGO_BIN_EXE_mesh-test-payload"), lower.join("payload")).expect("copied");
    fs::write(lower.join("etc/passwd"), "hidden:x:1:1::/:\n").expect("written");
    fs::write(upper.join("etc/passwd"), "root:x:0:0::/root:\nweb:x:1000:1001::/srv:\n")
        .expect("written");
    fs::write(upper.join("etc/group"), "web:x:1001:\nmore:x:99:web\n").expect("written");
    fs::write(lower.join("data/text"), "plain").expect("written");
    let config = image::Config {
        entrypoint: vec!["/payload".to_owned()],
        cmd: vec!["out".to_owned(), "from the image".to_owned()],
        env: vec!["FROM_IMAGE=yes".to_owned()],
        working_dir: None,
        user: None,
    };
    Rootfs { layers: vec![upper, lower], config }
}

/// Whatever of a node is still there.
fn left_behind(dir: &Path, config: &Config) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let dir = dir.to_string_lossy().into_owned();
    left.extend(mounts.lines().filter(|line| line.contains(&dir)).map(str::to_owned));
    let top = config.cgroup_parent.trim_start_matches('/').split('/').next().unwrap_or_default();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("listed").flatten();
    let groups = hierarchies.map(|entry| entry.path().join(top)).filter(|path| path.exists());
    left.extend(groups.map(|path| path.display().to_string()));
    for place in [&config.root, &config.run] {
        let entries = fs::read_dir(place).map(|entries| entries.flatten().collect::<Vec<_>>());
        left.extend(
            entries.unwrap_or_default().iter().map(|entry| entry.path().display().to_string()),
        );
    }
    left.extend(processes_with(&dir));
    left
}

/// Processes whose command line has this text: shims, above all.
pub(crate) fn processes_with(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("listed").flatten();
    let lines = entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let is_other = pid != std::process::id() && line.contains(text);
        is_other.then(|| format!("{pid} {}", line.replace('\0', " ")))
    });
    lines.collect()
}

impl Node {
    async fn open(config: Config, image: OneImage) -> Self {
        let (network, tasks) = (Bare::default(), Tasks::new("test"));
        let opened =
            Driver::open(config.clone(), network.clone(), Arc::new(image.clone()), tasks.clone());
        let (driver, events) = opened.await.expect("opened");
        Self { driver, events, network, config, image, tasks }
    }

    /// Lets go of the driver as a killed agent would, and opens another on the same files.
    pub(crate) async fn reopen(self) -> Self {
        self.leave().await.come_back().await
    }

    /// Lets go of the driver as a killed agent would: from here on nobody looks after the containers but their guards.
    pub(crate) async fn leave(self) -> Away {
        assert_eq!(self.tasks.stop(PATIENCE).await, 0);
        Away { config: self.config.clone(), image: self.image.clone() }
    }

    /// Starts a container and waits for its end.
    pub(crate) async fn run(&mut self, container: &Container) -> Exit {
        self.driver.start(container).await.expect("started");
        self.end_of(&container.id).await.exit.expect("a known end")
    }

    /// The next end, which must be this container's.
    pub(crate) async fn end_of(&mut self, id: &ContainerId) -> Ended {
        match self.next_event().await {
            Event::Ended(ended) if &ended.id == id => ended,
            other @ (Event::Ended(_) | Event::Stuck { .. }) => {
                panic!("not the end of {id}: {other:?}")
            }
        }
    }

    /// What the driver tells next.
    pub(crate) async fn next_event(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("in time");
        event.expect("the driver lives")
    }

    /// All that a container has written, by stream.
    pub(crate) async fn output(&self, id: &ContainerId) -> Vec<(Output, String)> {
        let query = LogQuery { tail: None, since: None, follow: false };
        let mut lines = self.driver.logs(id, query).await.expect("a log");
        let mut all = Vec::new();
        while let Some(line) = lines.recv().await {
            all.push((line.output, String::from_utf8_lossy(&line.text).into_owned()));
        }
        all
    }

    /// What a container that does `does` writes to its standard output.
    pub(crate) async fn lines_of(&mut self, does: &[&str]) -> Vec<String> {
        let container = container("asked", does);
        self.run(&container).await;
        let output = self.output(&container.id).await;
        self.driver.remove(&container.id).await.expect("removed");
        output.into_iter().map(|(_, line)| line).collect()
    }

    pub(crate) async fn found(&self, id: &ContainerId) -> Option<Found> {
        self.driver.list().await.into_iter().find(|found| &found.id == id)
    }

    pub(crate) async fn state(&self, id: &ContainerId) -> Option<State> {
        self.found(id).await.map(|found| found.state)
    }

    /// The state of a container whose processes have ended, once its shim has said how.
    pub(crate) async fn ended_state(&self, id: &ContainerId) -> State {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.state(id).await.expect("it is here") {
                State::Running(_) => {}
                State::Ended(exit) => return State::Ended(exit),
            }
            assert!(tokio::time::Instant::now() < deadline, "{id} runs on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The shim of a container.
    pub(crate) fn shim(&self, id: &ContainerId) -> i32 {
        let state = fs::read_to_string(self.config.root.join(&id.0).join("state.json"));
        let state = state.expect("a state");
        let (_, rest) = state.split_once("\"shim\":{\"pid\":").expect("a shim");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    }

    /// Waits until a container's log holds a line.
    pub(crate) async fn until_logged(&self, id: &ContainerId, wanted: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.output(id).await.iter().any(|(_, line)| line == wanted) {
            assert!(tokio::time::Instant::now() < deadline, "{wanted:?} never came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A container that does what the payload is told.
pub(crate) fn container(id: &str, does: &[&str]) -> Container {
    let slot = SlotId {
        app: AppUid([1; 16]),
        service: "web".parse().expect("a name"),
        index: SlotIndex::Number(0),
    };
    let command = does.iter().map(|word| (*word).to_owned()).collect();
    Container {
        id: ContainerId(id.to_owned()),
        tag: Tag { slot, revision: Revision { number: 1, id: 2 }, name: "shop/web/0".to_owned() },
        template: Template {
            image: ImageRef { name: "payload".to_owned(), digest: DIGEST.to_owned() },
            entrypoint: None,
            command: Some(command),
            environment: BTreeMap::new(),
            working_dir: None,
            user: None,
            hostname: None,
            labels: BTreeMap::new(),
            restart: RestartPolicy::Never,
            healthcheck: None,
            stop_signal: StopSignal::TERM,
            stop_grace: Duration::from_secs(10),
            limits: Limits::default(),
        },
        environment: BTreeMap::new(),
        hostname: "web-0".to_owned(),
        ports: Vec::new(),
        fence: None,
    }
}

/// A group of a node's container in the hierarchy of a controller, on version 1 and 2.
pub(crate) fn group_file(
    config: &Config,
    id: &str,
    controller: &str,
    v1: &str,
    v2: &str,
) -> String {
    let root = PathBuf::from("/sys/fs/cgroup");
    let path = format!("{}/{id}", config.cgroup_parent.trim_start_matches('/'));
    let file = if root.join("cgroup.controllers").exists() {
        root.join(path).join(v2)
    } else {
        root.join(controller).join(path).join(v1)
    };
    fs::read_to_string(&file).map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
}
