//! The apps that stories place, and the lab with their image.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::lab::{Lab, PATIENCE, until};

/// The image of the example app.
const HELLO: &str = "hello:1";

/// A mesh whose agents have the image of the apps; without agents, an empty lab.
pub(crate) fn mesh_with_image(n: usize) -> Result<Lab> {
    if n == 0 {
        return Lab::new(0);
    }
    let lab = Lab::with_mesh(n)?;
    push_image(&lab)?;
    Ok(lab)
}

/// Makes the image of `hello` and gives it to the mesh.
pub(crate) fn push_image(lab: &Lab) -> Result<()> {
    push_program(lab, HELLO, "hello")
}

/// Makes an image of a program, which it runs, and gives it to the mesh.
pub(crate) fn push_program(lab: &Lab, image: &str, program: &str) -> Result<()> {
    let archive = lab.dir().join(format!("desk/{program}.tar"));
    let packed = Command::new(lab.programs().path("pack-image"))
        .args(["--name", image, "--entrypoint", &format!("/{program}")])
        .arg(&archive)
        .arg(lab.programs().path(program))
        .output()
        .context("cannot run pack-image")?;
    ensure!(packed.status.success(), "pack-image: {}", String::from_utf8_lossy(&packed.stderr));
    lab.ctl(&["image", "push", &archive.to_string_lossy()])?.done().map(drop)
}

/// An app of one service, `web`, that serves on a port.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) replicas: usize,
    pub(crate) port: Option<u16>,
    /// Its health check.
    pub(crate) health: String,
    /// More lines of the service, each with its own indentation below it.
    pub(crate) more: String,
    /// More lines of its `deploy`.
    pub(crate) deploy: String,
}

impl App {
    pub(crate) fn new(name: &str, replicas: usize, port: Option<u16>) -> Self {
        Self {
            name: name.to_owned(),
            image: HELLO.to_owned(),
            replicas,
            port,
            health: "{test: [CMD, /hello, health], interval: 500ms, timeout: 2s, retries: 3}"
                .to_owned(),
            more: String::new(),
            deploy: format!("replicas: {replicas}\n"),
        }
    }

    pub(crate) fn with(mut self, more: &str) -> Self {
        self.more = more.to_owned();
        self
    }

    pub(crate) fn deployed(mut self, deploy: &str) -> Self {
        self.deploy.push_str(deploy);
        self
    }

    fn manifest(&self) -> String {
        let mut text = format!(
            "name: {}
services:
  web:
    image: {}
    healthcheck: {}
    stop_grace_period: 2s
",
            self.name, self.image, self.health
        );
        if let Some(port) = self.port {
            let (Ok(()) | Err(_)) = writeln!(text, "    ports: [\"{port}:8080\"]");
        }
        for line in self.more.lines() {
            let (Ok(()) | Err(_)) = writeln!(text, "    {line}");
        }
        text.push_str("    deploy:\n");
        for line in self.deploy.lines() {
            let (Ok(()) | Err(_)) = writeln!(text, "      {line}");
        }
        text
    }

    /// Writes the manifest to the desk; the path to place.
    pub(crate) fn write(&self, lab: &Lab) -> Result<String> {
        let dir = lab.dir().join("desk").join(&self.name);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("compose.yaml"), self.manifest())?;
        Ok(dir.to_string_lossy().into_owned())
    }

    /// Places it and waits until it runs.
    pub(crate) fn place(&self, lab: &Lab) -> Result<()> {
        let path = self.write(lab)?;
        lab.ctl(&["place", "--yes", &path])?.done()?;
        lab.until_ready(&self.name, self.replicas)
    }

    /// Removes it, and waits until nothing of its containers is left on any host that lives.
    pub(crate) fn remove(&self, lab: &Lab) -> Result<()> {
        remove(lab, &self.name)
    }
}

/// Removes an app and waits until no host has a container of it.
pub(crate) fn remove(lab: &Lab, app: &str) -> Result<()> {
    lab.ctl(&["rm", "--yes", app])?.done()?;
    until(PATIENCE, &format!("no container of {app} is left"), || {
        Ok(lab.hosts().all(|host| host.containers_of(app).is_empty()))
    })
}

/// That a port answers on hosts, each by itself.
pub(crate) fn serves_on(lab: &Lab, hosts: &[usize], port: u16) -> Result<()> {
    for host in hosts {
        until(Duration::from_secs(20), &format!("host {host} serves port {port}"), || {
            Ok(lab.http(*host, port, "/")?.status == 200)
        })?;
    }
    Ok(())
}

/// That every replica of an app has a container somewhere, as the kernel knows it.
pub(crate) fn at_least_one(lab: &Lab, app: &str, n: usize) -> Result<()> {
    let running: Vec<_> = lab.hosts().flat_map(|host| host.containers_of(app)).collect();
    for index in 0..n {
        let prefix = format!("{app}-web-{index}-");
        ensure!(
            running.iter().any(|one| one.id.starts_with(&prefix)),
            "nobody runs {app}/web/{index}: {running:?}"
        );
    }
    Ok(())
}
