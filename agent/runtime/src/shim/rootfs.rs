//! The container's root: an overlay of the image and the container's own files, and what Docker puts into `/etc`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::fault::Fault;
use crate::record::{Plan, file};

/// Links to the directories of an overlay are kept here, under short names.
const LINKS: &str = "l";

/// Mounts the root and returns where.
pub(super) fn mount_root(dir: &Path, plan: &Plan) -> Result<PathBuf, Fault> {
    if plan.layers.is_empty() {
        return Err(Fault::Invalid("the image has no layers".to_owned()));
    }
    let merged = plan.run.join(file::MERGED);
    unmount(&merged).map_err(|error| Fault::host("unmount what an earlier run left", error))?;
    let links = plan.run.join(LINKS);
    let prepared = [merged.clone(), dir.join(file::UPPER), dir.join(file::WORK)]
        .iter()
        .try_for_each(fs::create_dir_all)
        .and_then(|()| link_directories(dir, plan, &links));
    prepared.map_err(|error| Fault::host("prepare the root", error))?;

    // The options of a mount must fit into one page, and paths of forty layers do not: the kernel resolves short links from
    // the working directory instead. That is why the shim mounts, and not the agent, which has one working directory for all.
    let lower: Vec<String> = (0..plan.layers.len()).map(|number| number.to_string()).collect();
    let options = format!("lowerdir={},upperdir=u,workdir=w", lower.join(":"));
    let before =
        std::env::current_dir().map_err(|error| Fault::host("find the directory", error))?;
    let entered = std::env::set_current_dir(&links);
    // No device nodes: those in an image, or made in it, are not the container's to open.
    let mounted = entered.and_then(|()| {
        let flags = MsFlags::MS_NODEV;
        mount(Some("overlay"), &merged, Some("overlay"), flags, Some(options.as_str()))
            .map_err(io::Error::from)
    });
    let left = std::env::set_current_dir(before);
    mounted.and(left).map_err(|error| Fault::host("mount the root (overlayfs)", error))?;
    Ok(merged)
}

fn link_directories(dir: &Path, plan: &Plan, links: &Path) -> io::Result<()> {
    match fs::remove_dir_all(links) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir(links)?;
    for (number, layer) in plan.layers.iter().enumerate() {
        symlink(layer, links.join(number.to_string()))?;
    }
    symlink(dir.join(file::UPPER), links.join("u"))?;
    symlink(dir.join(file::WORK), links.join("w"))
}

/// Unmounts a root, as often as it is mounted; fine when it is not.
pub(crate) fn unmount(merged: &Path) -> io::Result<()> {
    for _layer in 0..8_u32 {
        match umount2(merged, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Writes `hosts`, `hostname` and `resolv.conf` beside the container's files, to be bound into its `/etc`.
pub(super) fn write_names(dir: &Path, plan: &Plan) -> Result<(), Fault> {
    let hosts = hosts(plan);
    let resolvers =
        if plan.nameservers.is_empty() { host_resolvers() } else { resolvers(&plan.nameservers) };
    let written = fs::write(dir.join("hosts"), hosts)
        .and_then(|()| fs::write(dir.join("hostname"), format!("{}\n", plan.hostname)))
        .and_then(|()| fs::write(dir.join("resolv.conf"), resolvers));
    written.map_err(|error| Fault::host("write hosts, hostname and resolv.conf", error))
}

fn hosts(plan: &Plan) -> String {
    format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n{}\t{}\n",
        plan.address, plan.hostname
    )
}

fn resolvers(nameservers: &[IpAddr]) -> String {
    nameservers.iter().map(|address| format!("nameserver {address}\n")).collect()
}

fn host_resolvers() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let own = without_loopback(&read("/etc/resolv.conf"));
    if own.lines().any(|line| line.starts_with("nameserver")) {
        return own;
    }
    // The resolvers behind systemd's own, which listens on a loopback address.
    let behind = without_loopback(&read("/run/systemd/resolve/resolv.conf"));
    if behind.lines().any(|line| line.starts_with("nameserver")) { behind } else { own }
}

/// A `resolv.conf` without the resolvers that a container cannot reach. When none is left it has none, and says why: names
/// then do not resolve, where Docker would quietly ask Google.
fn without_loopback(text: &str) -> String {
    let reachable = |line: &&str| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return true;
        }
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        address.is_none_or(|address| !address.is_loopback())
    };
    let kept: Vec<&str> = text.lines().filter(reachable).collect();
    let mut kept = kept.join("\n");
    kept.push('\n');
    if !kept.lines().any(|line| line.starts_with("nameserver")) {
        kept.push_str("# the host has no resolver that is reachable from a container\n");
    }
    kept
}

#[cfg(test)]
mod tests {
    //! What goes into `/etc`.

    use super::without_loopback;

    #[test]
    fn loopback_resolvers_are_left_out() {
        let text =
            "search example.com\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 9.9.9.9\n";
        assert_eq!(without_loopback(text), "search example.com\nnameserver 9.9.9.9\n");
    }

    #[test]
    fn no_resolver_is_made_up_when_none_is_left() {
        let kept = without_loopback("nameserver 127.0.0.1\n");
        assert!(kept.lines().all(|line| line.is_empty() || line.starts_with('#')), "{kept}");
    }
}
