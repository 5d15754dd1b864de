//! Properties of the source itself: who may depend on whom, how long a file may be, what every file says first.
//!
//! Fast, and part of `cargo test`, so that a violation shows before review and not after. A change of the tables below is a
//! change of the architecture: say why in the commit.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use serde_json::Value;

    /// Which of our crates each of our crates may depend on. A crate that is not listed may not exist; an edge that is not
    /// listed may not either.
    const LAYERS: &[(&str, &[&str])] = &[
        ("mesh-coordinator", &[]),
        ("mesh-proto", &[]),
        ("mesh-telemetry", &[]),
        ("mesh-compose", &["mesh-coordinator"]),
        ("mesh-ports", &["mesh-coordinator"]),
        ("mesh-engine", &["mesh-coordinator", "mesh-ports", "mesh-telemetry"]),
        ("mesh-gossip", &["mesh-coordinator", "mesh-ports", "mesh-telemetry"]),
        // What is signed is the wire form, so the crate that signs knows it.
        ("mesh-identity", &["mesh-coordinator", "mesh-ports", "mesh-proto"]),
        ("mesh-store", &["mesh-ports"]),
        ("mesh-runtime", &["mesh-coordinator", "mesh-ports", "mesh-telemetry"]),
        ("mesh-network", &["mesh-coordinator", "mesh-ports", "mesh-telemetry"]),
        ("mesh-api", &["mesh-coordinator", "mesh-ports", "mesh-proto", "mesh-telemetry"]),
        // An operator signs what is asked for, so agentctl holds keys.
        (
            "mesh-ctl",
            &["mesh-api", "mesh-compose", "mesh-coordinator", "mesh-identity", "mesh-ports"],
        ),
        (
            "mesh-daemon",
            &[
                "mesh-api",
                "mesh-coordinator",
                "mesh-engine",
                "mesh-gossip",
                "mesh-identity",
                "mesh-network",
                "mesh-ports",
                "mesh-runtime",
                "mesh-store",
                "mesh-telemetry",
            ],
        ),
        // Packs its own image with the image builder.
        ("mesh-example-hello", &["mesh-runtime"]),
        ("mesh-tests", &["mesh-coordinator"]),
    ];

    /// Third-party crates that only these crates of ours may name.
    const OWNED: &[(&str, &[&str])] = &[
        ("chitchat", &["mesh-gossip"]),
        ("clap", &["mesh-ctl", "mesh-daemon", "mesh-example-hello"]),
        ("clap_complete", &["mesh-ctl"]),
        ("clap_mangen", &["mesh-ctl"]),
        ("crypto_box", &["mesh-identity"]),
        ("ed25519-dalek", &["mesh-identity"]),
        ("granit-parser", &["mesh-compose"]),
        ("hickory-resolver", &["mesh-api"]),
        ("libcontainer", &["mesh-runtime"]),
        ("nlink", &["mesh-network"]),
        ("rtnetlink", &["mesh-network"]),
        ("sled", &["mesh-store"]),
        ("tonic", &["mesh-api", "mesh-proto"]),
        ("tracing-subscriber", &["mesh-telemetry"]),
    ];

    /// Crates that must not appear at all: a second TLS provider, C libraries that a static binary would need, abandoned ones.
    const BANNED: &[&str] = &[
        "aws-lc-rs",
        "openssl",
        "native-tls",
        "serde_yaml",
        "serde_yml",
        "lazy_static",
        "once_cell",
    ];

    /// What the core may use: everything else could reach the world.
    const CORE: &[&str] = &["sha2", "thiserror"];

    const FILE_LINES_MAX: usize = 600;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
    }

    /// For each of our crates, the names of its normal and build dependencies.
    fn crates() -> BTreeMap<String, Vec<String>> {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--locked"])
            .current_dir(root())
            .output()
            .unwrap();
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let dependencies = |package: &Value| {
            let all = package["dependencies"].as_array().unwrap().iter();
            all.filter(|dependency| dependency["kind"] != "dev")
                .map(|dependency| text(&dependency["name"]))
                .collect()
        };
        let packages = metadata["packages"].as_array().unwrap().iter();
        packages.map(|package| (text(&package["name"]), dependencies(package))).collect()
    }

    #[test]
    fn crates_depend_inwards() {
        let crates = crates();
        assert_eq!(crates.len(), LAYERS.len(), "a crate is missing in the table, or in the tree");
        for (name, dependencies) in crates {
            let allowed = LAYERS.iter().find(|(layer, _)| *layer == name);
            let (_, allowed) = allowed.unwrap_or_else(|| panic!("{name} is in no layer"));
            for dependency in
                dependencies.iter().filter(|dependency| dependency.starts_with("mesh-"))
            {
                assert!(allowed.contains(&dependency.as_str()), "{name} may not use {dependency}");
            }
        }
    }

    #[test]
    fn heavy_crates_have_one_owner() {
        for (name, dependencies) in crates() {
            for dependency in dependencies {
                let owner = OWNED.iter().find(|(theirs, _)| *theirs == dependency);
                assert!(
                    owner.is_none_or(|(_, owners)| owners.contains(&name.as_str())),
                    "{name}: {dependency} is owned"
                );
            }
        }
    }

    #[test]
    fn the_core_reaches_nothing() {
        let crates = crates();
        let core = &crates["mesh-coordinator"];
        for dependency in core {
            assert!(CORE.contains(&dependency.as_str()), "mesh-coordinator uses {dependency}");
        }
    }

    #[test]
    fn banned_crates_are_not_in_the_graph() {
        let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
        // The lock file also lists what optional features could bring; only the resolved graph counts.
        let tree = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--workspace",
                "--offline",
                "--locked",
                "--prefix=none",
                "-e",
                "normal,build",
                "-f",
                "{p}",
            ])
            .current_dir(root())
            .output()
            .unwrap();
        let tree = String::from_utf8(tree.stdout).unwrap();
        assert!(
            tree.contains("mesh-daemon") && lock.contains("mesh-daemon"),
            "cargo tree printed nothing"
        );
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap_or_default();
            let ours = crates().values().flatten().any(|dependency| dependency == name);
            assert!(!BANNED.contains(&name) || !ours, "{name} is banned and a direct dependency");
            assert!(!["aws-lc-rs", "openssl", "native-tls"].contains(&name), "{name} is banned");
        }
    }

    #[test]
    fn files_say_what_they_are_for_and_stay_short() {
        let mut n_files = 0;
        for path in files("rs") {
            let text = fs::read_to_string(&path).unwrap();
            let shown = path.display();
            n_files += 1;
            assert!(
                text.starts_with("//! "),
                "{shown}: the first line says what the module is for"
            );
            let n_lines = text.lines().count();
            assert!(
                n_lines <= FILE_LINES_MAX,
                "{shown}: {n_lines} lines are more than {FILE_LINES_MAX}"
            );
            for unfinished in [["TO", "DO"].concat(), ["FIX", "ME"].concat()] {
                assert!(!text.contains(&unfinished), "{shown}: file an issue instead");
            }
        }
        assert!(n_files > 100, "only {n_files} files were found");
    }

    #[test]
    fn every_crate_takes_the_lints_and_describes_itself() {
        for path in files("toml").filter(|path| path.ends_with("Cargo.toml")) {
            let text = fs::read_to_string(&path).unwrap();
            if !text.contains("[package]") {
                continue;
            }
            let shown = path.display();
            assert!(
                text.contains("[lints]\nworkspace = true"),
                "{shown}: lints.workspace is missing"
            );
            let description = text
                .lines()
                .find_map(|line| line.strip_prefix("description = \""))
                .unwrap_or_default();
            let description = description.trim_end_matches('"');
            let library = path.with_file_name("src").join("lib.rs");
            if let Ok(library) = fs::read_to_string(library) {
                let first = library.lines().next().unwrap_or_default().trim_start_matches("//! ");
                assert_eq!(
                    first, description,
                    "{shown}: the description is the first line of lib.rs"
                );
            }
        }
    }

    /// A rule that nobody misses is no rule, or has no test.
    #[test]
    fn somebody_notices_the_absence_of_each_rule() {
        let core = root().join("coordinator-lib/src");
        let rules = fs::read_to_string(core.join("rules.rs")).unwrap();
        let body = rules.split_once("pub enum Rule {").unwrap().1.split_once('}').unwrap().0;
        let names = body.lines().map(str::trim).filter(|line| !line.starts_with('/'));
        let names = names.filter_map(|line| line.strip_suffix(','));
        let is_of_tests = |path: &PathBuf| {
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap();
            let is_script = path.starts_with("coordinator-lib") && path.contains("tests");
            is_script || ["tests/model.rs", "tests/sim.rs", "tests/walk.rs"].contains(&path)
        };
        let tests: String =
            files("rs").filter(is_of_tests).map(|path| fs::read_to_string(path).unwrap()).collect();
        let words: BTreeSet<&str> = tests.split(|c: char| !c.is_alphanumeric()).collect();
        let forgotten: Vec<&str> = names.filter(|name| !words.contains(name)).collect();
        assert_eq!(forgotten, Vec::<&str>::new(), "no test leaves them out");
    }

    #[test]
    fn nobody_waits_for_real_time_in_the_core() {
        let core = root().join("coordinator-lib");
        for path in files("rs").filter(|path| path.starts_with(&core)) {
            let text = fs::read_to_string(&path).unwrap();
            for forbidden in
                ["tokio::", "Instant::now", "SystemTime", "std::net", "HashMap", "thread_rng"]
            {
                assert!(!text.contains(forbidden), "{}: {forbidden}", path.display());
            }
        }
    }

    fn files(extension: &'static str) -> impl Iterator<Item = PathBuf> {
        let mut folders = vec![root()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    if !name.starts_with('.') && !["generated", "target"].contains(&name.as_str()) {
                        folders.push(path);
                    }
                } else if path.extension().is_some_and(|found| found == extension) {
                    found.push(path);
                }
            }
        }
        found.into_iter()
    }
}
