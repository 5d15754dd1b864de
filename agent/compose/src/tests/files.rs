//! Manifests in directories: which file is read, and the files beside it.

use std::fs;

use tempfile::TempDir;

use super::{assert_snapshot, environment};
use crate::{Loaded, Problems, Source, load};

const WEB: &str = "name: shop\nservices:\n  web:\n    image: nginx\n";

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn load_files(files: &[(&str, &str)]) -> Result<Loaded, String> {
    let directory = directory(files);
    load(&Source::path(directory.path()), &environment)
        .map_err(|problems| shown(&problems, &directory))
}

fn shown(problems: &Problems, directory: &TempDir) -> String {
    problems.to_string().replace(&directory.path().display().to_string(), "DIR")
}

fn variables(loaded: &Loaded) -> Vec<(&str, &str)> {
    let service = loaded.manifest.services.values().next().unwrap();
    let pairs = service.container.environment.iter();
    pairs.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn warnings(loaded: &Loaded) -> Vec<&str> {
    loaded.warnings.iter().map(|warning| warning.found.as_str()).collect()
}

#[test]
fn the_first_of_composes_names_is_read() {
    let other = "name: other\nservices:\n  web:\n    image: nginx\n";
    let loaded = load_files(&[
        ("docker-compose.yml", other),
        ("compose.yml", WEB),
        ("compose.override.yaml", ""),
    ]);
    let loaded = loaded.unwrap();
    assert_eq!(loaded.manifest.name.as_str(), "shop");
    assert_eq!(
        warnings(&loaded),
        [
            "docker-compose.yml is not read, because compose.yml is there",
            "compose.override.yaml is not read: one file describes an app",
        ]
    );
}

#[test]
fn a_directory_without_a_manifest_says_what_it_lacks() {
    assert_snapshot("files", "no-manifest", &load_files(&[("Dockerfile", "")]).unwrap_err());
}

#[test]
fn a_missing_file_is_named() {
    let directory = directory(&[]);
    let source = Source::path(directory.path().join("nowhere.yaml"));
    let problems = load(&source, &environment).unwrap_err();
    assert_snapshot("files", "missing-file", &shown(&problems, &directory));
}

#[test]
fn a_file_can_have_any_name() {
    let directory = directory(&[("shop.yaml", WEB)]);
    let source = Source::path(directory.path().join("shop.yaml"));
    assert!(load(&source, &environment).unwrap().warnings.is_empty());
}

#[test]
fn a_name_that_was_asked_for_wins() {
    let source = Source::text("x", WEB).named("blog".parse().unwrap());
    assert_eq!(load(&source, &environment).unwrap().manifest.name.as_str(), "blog");
}

#[test]
fn an_app_without_a_name_is_named_after_its_directory() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("My_Shop.2");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("compose.yaml"), "services:\n  web:\n    image: nginx\n").unwrap();
    let loaded = load(&Source::path(&path), &environment).unwrap();
    assert_eq!(loaded.manifest.name.as_str(), "my_shop2");
    assert_eq!(warnings(&loaded), ["the app is named my_shop2, after its directory"]);
}

#[test]
fn what_is_not_text_is_refused_at_its_place() {
    let directory = directory(&[]);
    let path = directory.path().join("compose.yaml");
    fs::write(&path, b"name: shop\nx: \xff\n").unwrap();
    let problems = load(&Source::path(directory.path()), &environment).unwrap_err();
    assert_snapshot("files", "not-utf8", &shown(&problems, &directory));
    fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
    let problems = load(&Source::path(directory.path()), &environment).unwrap_err();
    assert_snapshot("files", "too-large", &shown(&problems, &directory));
}

#[test]
fn the_real_environment_wins_over_the_file_of_defaults() {
    let text = "name: shop\nservices:\n  web:\n    image: nginx:${TAG}\n    user: ${WHO}\n    environment: [WHO]\n";
    let loaded = load_files(&[("compose.yaml", text), (".env", "TAG=0\nWHO=me-$TAG\n")]).unwrap();
    let service = loaded.manifest.services.values().next().unwrap();
    assert_eq!(service.image, "nginx:1.29");
    assert_eq!(service.container.user.as_deref(), Some("me-1.29"));
    assert_eq!(variables(&loaded), [("WHO", "me-1.29")]);
}

#[test]
fn faults_of_the_file_of_defaults_do_not_show_its_lines() {
    let error =
        load_files(&[("compose.yaml", WEB), (".env", "A=1\n\nsecret secret\nB='x\n")]).unwrap_err();
    assert_snapshot("files", "dotenv-faults", &error);
}

#[test]
fn later_files_of_variables_win_and_the_manifest_over_all() {
    let text = "name: shop\nservices:\n  web:\n    image: nginx\n    env_file:\n      - a.env\n      - path: b.env\n      \
                - path: none.env\n        required: false\n      - path: raw.env\n        format: raw\n    environment:\n      C: manifest\n";
    let loaded = load_files(&[
        ("compose.yaml", text),
        ("a.env", "A=a\nB=a\nC=a\nTAG\nGONE\n"),
        ("b.env", "B=b-${A:-default}\nC=b\n"),
        ("raw.env", "R='$x' # kept\n"),
    ]);
    assert_eq!(
        variables(&loaded.unwrap()),
        [("A", "a"), ("B", "b-default"), ("C", "manifest"), ("R", "'$x' # kept"), ("TAG", "1.29")]
    );
}

#[test]
fn files_of_variables_that_are_missing_or_broken_are_named() {
    let text =
        "name: shop\nservices:\n  web:\n    image: nginx\n    env_file: [none.env, bad.env]\n";
    let bad = "OK=1\n1BAD=2\nMESH_SLOT=1\nX=${OPEN\nY=\"a\" b\nZ=${UNSET}\n";
    assert_snapshot(
        "files",
        "env-file-faults",
        &load_files(&[("compose.yaml", text), ("bad.env", bad)]).unwrap_err(),
    );
}

#[test]
fn a_text_without_a_directory_names_no_files() {
    let text = format!("{WEB}    env_file: a.env\n");
    let problems = load(&Source::text("-", text.as_str()), &environment).unwrap_err();
    assert_snapshot("files", "env-file-of-text", &problems.to_string());
    let directory = directory(&[("a.env", "A=1\n")]);
    let source = Source::text("-", text).within(directory.path());
    assert_eq!(variables(&load(&source, &environment).unwrap()), [("A", "1")]);
}
