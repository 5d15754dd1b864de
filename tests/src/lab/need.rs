//! What a machine must have for a lab.

use std::path::Path;

use super::shell;

/// What is missing on this machine, with the remedy; empty when all is there. The stories of the tests cut links, type at terminals
/// and follow documents, and need more for it.
#[must_use]
pub fn missing(for_stories: bool) -> Vec<String> {
    let mut missing = Vec::new();
    if !nix::unistd::Uid::effective().is_root() {
        missing.push("root (run it with sudo)".to_owned());
    }
    let programs = [("ip", "iproute2"), ("nsenter", "util-linux"), ("timeout", "coreutils")];
    let stories = [
        ("nft", "nftables"),
        ("curl", "curl"),
        ("script", "bsdutils"),
        ("mkfs.ext4", "e2fsprogs"),
        ("fsfreeze", "util-linux"),
    ];
    let stories = stories.into_iter().filter(|_| for_stories);
    for (program, package) in programs.into_iter().chain(stories) {
        if !is_installed(program) {
            missing.push(format!("the program {program} (apt-get install {package})"));
        }
    }
    if missing.is_empty()
        && let Err(error) = try_namespace()
    {
        missing.push(format!(
            "network namespaces with bridges: a container or a kernel without them refuses ({error:#})"
        ));
    }
    missing
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(usual).any(|dir| Path::new(&dir).join(program).is_file())
}

fn try_namespace() -> anyhow::Result<()> {
    let name = format!("mt{}-try", std::process::id());
    shell::run("ip", &["netns", "add", &name])?;
    let made =
        shell::run("ip", &["-n", &name, "link", "add", "lan", "type", "bridge"]).and_then(|_| {
            shell::run("ip", &["-n", &name, "link", "add", "name", "cable", "type", "veth"])
        });
    shell::attempt("ip", &["netns", "del", &name]);
    made.map(drop)
}
