//! The services that the nemesis is after, and their image.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::plan::SLOTS;
use crate::lab::Lab;

/// The app.
pub(crate) const APP: &str = "nemesis";

/// Each runs the program in its own way, by the shortest lease that there is.
fn manifest() -> String {
    let mut text = format!("name: {APP}\nservices:\n");
    for service in ["plain", "ignores", "forks", "becomes"] {
        let n = SLOTS.iter().filter(|(its, _)| *its == service).count();
        let command = if service == "plain" { String::new() } else { service.to_owned() };
        text.push_str(&format!(
            "  {service}:
    image: ticker:1
    command: [{command}]
    stop_grace_period: 1s
    x-mesh: {{guarantee: exclusive, lease: {{ttl: 6s}}}}
    deploy: {{replicas: {n}}}
"
        ));
    }
    text
}

/// How the slots are called in histories.
pub(crate) fn slots() -> Vec<String> {
    SLOTS.iter().map(|(service, index)| format!("{service}/{index}")).collect()
}

/// Gives the mesh the image.
pub(crate) fn push_image(lab: &Lab) -> Result<()> {
    let archive = lab.dir().join("desk/ticker.tar");
    let program = format!("{}=/ticker", lab.programs().path("mesh-ticker").display());
    let packed = Command::new(lab.programs().path("pack-image"))
        .args(["--name", "ticker:1", "--entrypoint", "/ticker"])
        .arg(&archive)
        .arg(program)
        .output()
        .context("cannot run pack-image")?;
    ensure!(packed.status.success(), "pack-image: {}", String::from_utf8_lossy(&packed.stderr));
    lab.ctl(&["image", "push", &archive.to_string_lossy()])?.done().map(drop)
}

/// Gives the mesh the image, and places the app.
pub(crate) fn place(lab: &Lab) -> Result<()> {
    push_image(lab)?;
    let dir = lab.dir().join("desk").join(APP);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("compose.yaml"), manifest())?;
    lab.ctl(&["place", "--yes", &dir.to_string_lossy()])?.done()?;
    lab.until_ready(APP, SLOTS.len())
}
