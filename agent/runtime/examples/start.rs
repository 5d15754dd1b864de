//! Creates and starts a container by the embedded driver and by runc, and prints how long each took. `tests/bench start` runs it.
//!
//! For every line on its standard input it does each once and prints a line of JSON with times in microseconds. All of them
//! start the same program in the same bundle: the one that the driver writes. The driver always makes a network namespace and
//! mounts an overlay; runc is measured without that work, which is done for it beforehand, and with it. Nothing connects the
//! containers, on either side, and only the driver installs a filter of system calls.
//!
//! `start DIR GROUP PROGRAM`: where to work, the control group above all that is made, and a static program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mesh_coordinator::id::{AppUid, Revision, SlotId, SlotIndex};
use mesh_coordinator::spec::{ImageRef, Limits, RestartPolicy, StopSignal, Template};
use mesh_ports::network::{AttachError, ContainerNetwork, HostPort};
use mesh_ports::runtime::{Container, ContainerId, ImageError, Runtime as _, Tag};
use mesh_runtime::embedded::{Config, Driver, Images};
use mesh_runtime::image::{self, Rootfs};
use mesh_runtime::{LogLimits, shim_main};
use mesh_telemetry::Tasks;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let ended = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["shim", dir] => return shim_main(Path::new(dir)),
        [dir, group, program] => measure(Path::new(dir), group, Path::new(program)),
        _ => Err(anyhow::anyhow!("usage: start DIR GROUP PROGRAM")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (Ok(()) | Err(_)) = writeln!(io::stderr(), "start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A network of namespaces with nothing in them.
#[derive(Debug, Clone)]
struct Bare;

impl ContainerNetwork for Bare {
    async fn attach(
        &self,
        container: &str,
        namespace: &Path,
        _ports: &[HostPort],
    ) -> Result<Ipv4Addr, AttachError> {
        make_namespace(namespace).map_err(|error| AttachError::Interface {
            container: container.to_owned(),
            source: error.into(),
        })?;
        Ok(Ipv4Addr::new(10, 99, 0, 2))
    }

    async fn detach(&self, _container: &str, namespace: &Path) {
        unmount(namespace);
        let (Ok(()) | Err(_)) = fs::remove_file(namespace);
    }

    async fn adopt(&self, _container: &str, _address: Ipv4Addr) {}

    async fn sweep(&self, _alive: &[String]) {}
}

fn make_namespace(at: &Path) -> io::Result<()> {
    fs::write(at, "")?;
    let at = at.to_path_buf();
    // A thread of its own: a namespace belongs to a thread.
    let made = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let own = Path::new("/proc/thread-self/ns/net");
        mount(Some(own), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    });
    made.join().map_err(|_panic| io::Error::other("the thread panicked"))??;
    Ok(())
}

fn unmount(at: &Path) {
    let (Ok(()) | Err(_)) = umount2(at, MntFlags::MNT_DETACH);
}

#[derive(Debug)]
struct OneImage(Rootfs);

impl Images for OneImage {
    fn rootfs_of(&self, _digest: &str) -> Result<Rootfs, ImageError> {
        Ok(self.0.clone())
    }
}

fn measure(dir: &Path, group: &str, program: &Path) -> Result<()> {
    let dir = dir.canonicalize().context("there is no such directory")?;
    let layer = dir.join("layer");
    fs::create_dir_all(&layer)?;
    fs::copy(program, layer.join("program")).context("cannot copy the program")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let tasks = Tasks::new("bench");
    let config = Config {
        root: dir.join("containers"),
        run: dir.join("run"),
        cgroup_parent: format!("/{group}/ours"),
        shim: vec![std::env::current_exe()?.into(), "shim".into()],
        capacity: None,
        log: LogLimits::DEFAULT,
        start_max: Config::START_MAX,
        nameservers: Vec::new(),
    };
    let image = OneImage(Rootfs {
        layers: vec![layer.clone()],
        config: image::Config {
            entrypoint: vec!["/program".to_owned()],
            cmd: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            user: None,
        },
    });
    let opened = Driver::open(config.clone(), Bare, Arc::new(image), tasks.clone());
    let (driver, _events) = runtime.block_on(opened)?;
    // It stays, because files of its are bound into the containers of runc.
    let model = container("model")?;
    runtime.block_on(driver.start(&model))?;
    let runc = Runc {
        spec: serde_json::from_slice(&fs::read(config.run.join("model/bundle/config.json"))?)?,
        group: format!("/{group}/runc"),
        layer,
        dir: dir.join("runc"),
    };
    for (number, line) in io::stdin().lock().lines().enumerate() {
        line?;
        let own = container(&format!("c{number}"))?;
        let begun = Instant::now();
        runtime.block_on(driver.start(&own))?;
        let ours = begun.elapsed();
        runtime.block_on(driver.remove(&own.id))?;
        let times = json!({
            "ours": micros(ours),
            "runc": micros(runc.measure(&format!("a{number}"), false, Way::CreateAndStart)?),
            "runc_set_up": micros(runc.measure(&format!("b{number}"), true, Way::CreateAndStart)?),
            "runc_run_set_up": micros(runc.measure(&format!("d{number}"), true, Way::Run)?),
        });
        writeln!(io::stdout(), "{times}")?;
        io::stdout().flush()?;
    }
    runtime.block_on(async {
        driver.remove(&model.id).await?;
        tasks.stop(Duration::from_secs(5)).await;
        Ok(())
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn container(id: &str) -> Result<Container> {
    let (app, service) = (AppUid([1; 16]), "web".parse()?);
    Ok(Container {
        id: ContainerId(id.to_owned()),
        tag: Tag {
            slot: SlotId { app, service, index: SlotIndex::Number(0) },
            revision: Revision { number: 1, id: 2 },
            name: "bench/web/0".to_owned(),
        },
        template: Template {
            image: ImageRef { name: "hello".to_owned(), digest: "sha256:hello".to_owned() },
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            working_dir: None,
            user: None,
            hostname: None,
            labels: BTreeMap::new(),
            restart: RestartPolicy::Never,
            healthcheck: None,
            stop_signal: StopSignal::TERM,
            stop_grace: Duration::from_secs(1),
            limits: Limits::default(),
        },
        environment: BTreeMap::new(),
        hostname: "web-0".to_owned(),
        ports: Vec::new(),
        fence: None,
    })
}

/// How runc is called.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// As engines do.
    CreateAndStart,
    /// The quickest.
    Run,
}

/// runc, and what it is given.
#[derive(Debug)]
struct Runc {
    spec: Value,
    group: String,
    layer: PathBuf,
    dir: PathBuf,
}

impl Runc {
    fn measure(&self, id: &str, sets_up: bool, way: Way) -> Result<Duration> {
        let bundle = self.dir.join("bundles").join(id);
        self.write_bundle(&bundle, id)?;
        if !sets_up {
            self.set_up(&bundle)?;
        }
        let begun = Instant::now();
        if sets_up {
            self.set_up(&bundle)?;
        }
        let at = bundle.as_os_str();
        match way {
            Way::CreateAndStart => {
                self.call(&["create".as_ref(), "--bundle".as_ref(), at, id.as_ref()])?;
                self.call(&["start".as_ref(), id.as_ref()])?;
            }
            Way::Run => {
                self.call(&[
                    "run".as_ref(),
                    "--detach".as_ref(),
                    "--bundle".as_ref(),
                    at,
                    id.as_ref(),
                ])?;
            }
        }
        let took = begun.elapsed();
        self.call(&["delete".as_ref(), "--force".as_ref(), id.as_ref()])?;
        unmount(&bundle.join("rootfs"));
        unmount(&bundle.join("network"));
        fs::remove_dir_all(&bundle)?;
        Ok(took)
    }

    /// The driver's bundle, with a root, a network namespace and a control group of its own.
    fn write_bundle(&self, bundle: &Path, id: &str) -> Result<()> {
        for part in ["rootfs", "upper", "work"] {
            fs::create_dir_all(bundle.join(part))?;
        }
        let mut spec = self.spec.clone();
        let set = |spec: &mut Value, pointer: &str, value: Value| -> Result<()> {
            let place = spec.pointer_mut(pointer);
            *place.with_context(|| format!("the bundle has no {pointer}"))? = value;
            Ok(())
        };
        set(&mut spec, "/root/path", json!(bundle.join("rootfs")))?;
        set(&mut spec, "/linux/cgroupsPath", json!(format!("{}/{id}", self.group)))?;
        let spaces = spec.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut);
        let mut spaces = spaces.context("the bundle has no namespaces")?.iter_mut();
        let network = spaces.find(|one| one.get("type").is_some_and(|kind| kind == "network"));
        set(network.context("no network namespace")?, "/path", json!(bundle.join("network")))?;
        fs::write(bundle.join("config.json"), serde_json::to_vec(&spec)?)?;
        Ok(())
    }

    fn set_up(&self, bundle: &Path) -> Result<()> {
        make_namespace(&bundle.join("network"))?;
        let show = |part: &str| bundle.join(part).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.layer.display(),
            show("upper"),
            show("work")
        );
        let (kind, at) = (Some("overlay"), bundle.join("rootfs"));
        mount(kind, &at, kind, MsFlags::MS_NODEV, Some(options.as_str())).context("no overlay")
    }

    fn call(&self, args: &[&OsStr]) -> Result<()> {
        let log = self.dir.join("runc.log");
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.dir.join("state")).arg("--log").arg(&log).args(args);
        // What runc starts keeps these open, so that nothing that waits for their end may be behind them.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().context("cannot run runc")?;
        if !status.success() {
            bail!("runc {args:?}: {status}: {}", fs::read_to_string(&log).unwrap_or_default());
        }
        Ok(())
    }
}
