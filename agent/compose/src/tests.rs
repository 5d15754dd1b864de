//! Whole manifests: what is wrong with the broken ones, in exact words, and what the good ones say.
//!
//! Each file of `tests/broken` and `tests/good` has a snapshot. After a change that is meant, `INSTA_UPDATE=always cargo test
//! -p mesh-compose` writes them again, to be read in the difference.

mod files;
mod property;

use std::path::{Path, PathBuf};

use crate::{Loaded, Problems, Source, load};

/// The environment of all tests of this module.
fn environment(name: &str) -> Option<String> {
    let value = match name {
        "TAG" => "1.29",
        "EMPTY" => "",
        "COUNT" => "3",
        _ => return None,
    };
    Some(value.to_owned())
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    load(&Source::text("compose.yaml", text), &environment)
}

/// The manifests of a directory, by name.
fn manifests(kind: &str) -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests").join(kind);
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    let named = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    paths.into_iter().map(named).collect()
}

fn assert_snapshot(kind: &str, name: &str, result: &str) {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(format!("tests/snapshots/{kind}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, result));
}

#[test]
fn broken_manifests_say_what_is_wrong() {
    let manifests = manifests("broken");
    assert!(manifests.len() >= 45);
    for (name, text) in manifests {
        let problems = load_text(&text).expect_err(&name);
        assert_snapshot("broken", &name, &problems.to_string());
    }
}

#[test]
fn good_manifests_are_understood() {
    let manifests = manifests("good");
    assert!(manifests.len() >= 12);
    for (name, text) in manifests {
        let loaded = load_text(&text).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let result = format!("{:#?}\n\n{}", loaded.manifest, warnings.join("\n\n"));
        assert_snapshot("good", &name, result.trim_end());
    }
}

#[test]
fn each_snapshot_has_its_manifest() {
    for kind in ["broken", "good"] {
        let snapshots = manifests(&format!("snapshots/{kind}"));
        let names: Vec<String> = manifests(kind).into_iter().map(|(name, _)| name).collect();
        assert_eq!(snapshots.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    }
}

/// All keys of the Compose specification's schema at three places.
const COMPOSE_KEYS: [(&str, &[&str]); 3] = [
    (
        "services: {web: {image: x}}, KEY: {}",
        &["configs", "include", "models", "name", "networks", "secrets", "version", "volumes"],
    ),
    (
        "services: {web: {KEY: {}}}",
        &[
            "annotations",
            "attach",
            "blkio_config",
            "build",
            "cap_add",
            "cap_drop",
            "cgroup",
            "cgroup_parent",
            "command",
            "configs",
            "container_name",
            "cpu_count",
            "cpu_percent",
            "cpu_period",
            "cpu_quota",
            "cpu_rt_period",
            "cpu_rt_runtime",
            "cpu_shares",
            "cpus",
            "cpuset",
            "credential_spec",
            "depends_on",
            "deploy",
            "develop",
            "device_cgroup_rules",
            "devices",
            "dns",
            "dns_opt",
            "dns_search",
            "domainname",
            "entrypoint",
            "env_file",
            "environment",
            "expose",
            "extends",
            "external_links",
            "extra_hosts",
            "gpus",
            "group_add",
            "healthcheck",
            "hostname",
            "image",
            "init",
            "ipc",
            "isolation",
            "label_file",
            "labels",
            "links",
            "logging",
            "mac_address",
            "mem_limit",
            "mem_reservation",
            "mem_swappiness",
            "memswap_limit",
            "models",
            "network_mode",
            "networks",
            "oom_kill_disable",
            "oom_score_adj",
            "pid",
            "pids_limit",
            "platform",
            "ports",
            "post_start",
            "pre_stop",
            "privileged",
            "profiles",
            "provider",
            "pull_policy",
            "pull_refresh_after",
            "read_only",
            "restart",
            "runtime",
            "scale",
            "secrets",
            "security_opt",
            "shm_size",
            "stdin_open",
            "stop_grace_period",
            "stop_signal",
            "storage_opt",
            "sysctls",
            "tmpfs",
            "tty",
            "ulimits",
            "use_api_socket",
            "user",
            "userns_mode",
            "uts",
            "volumes",
            "volumes_from",
            "working_dir",
        ],
    ),
    (
        "services: {web: {deploy: {KEY: {}}}}",
        &[
            "endpoint_mode",
            "labels",
            "mode",
            "placement",
            "replicas",
            "resources",
            "restart_policy",
            "rollback_config",
            "update_config",
        ],
    ),
];

#[test]
fn no_key_of_compose_is_unknown() {
    for (text, keys) in COMPOSE_KEYS {
        for key in keys {
            let text = format!("{{{}}}", text.replace("KEY", key));
            if let Err(problems) = load_text(&text) {
                assert!(problems.iter().all(|one| !one.found.contains("unknown")), "{problems}");
            }
        }
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
    let text =
        "name: shop\nservices:\n  web:\n    image: nginx\n    command: |\n      a\n      b\n";
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(load_text(&windows), load_text(text));
}

#[test]
fn a_flood_of_problems_is_cut() {
    let mut text = String::from("name: shop\nservices:\n  web:\n    image: nginx\n");
    for n in 0..1_000 {
        text.push_str(&format!("    key{n}: x\n"));
    }
    let problems = load_text(&text).unwrap_err();
    assert_eq!((problems.iter().count(), problems.n_unlisted()), (200, 800));
    assert!(problems.to_string().ends_with("200 errors, and 800 more that are not listed"));
}

#[test]
fn hostile_files_end_soon() {
    let items = "${,".repeat(100_000);
    let aliases = "*a,".repeat(100_000);
    let nested = format!("{}x{}", "&a [".repeat(60), "]".repeat(60));
    let chain: String = (1..5_000).map(|n| format!("x{n}: &x{n} [*x{}]\n", n - 1)).collect();
    for text in [
        format!("name: shop\nx-a: [{items}]\n"),
        format!("x-a: &a {}\nx-b: [{aliases}]\n", "long ".repeat(50_000)),
        format!("x-a: {nested}\n"),
        format!("x0: &x0 []\n{chain}"),
        "- ".repeat(100_000),
        "{".repeat(100_000),
        format!("a: {}", "${A:-".repeat(50_000)),
        format!("? {}\n: [1]\n", "k".repeat(100_000)),
    ] {
        let problems = load_text(&text).unwrap_err();
        assert!(problems.iter().count() > 0);
        assert!(problems.to_string().len() < 200_000);
    }
}
