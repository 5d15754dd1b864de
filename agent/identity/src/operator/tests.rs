//! The operator's file: private, whole, and clear about what is wrong with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use mesh_coordinator::id::{Hash, MeshId};
use tempfile::TempDir;

use super::{Context, ContextError, Contexts, KnownAgent, Newcomer, export};
use crate::keys::KeyPair;

fn context(number: u8, name: &str) -> Context {
    Context {
        name: name.parse().unwrap(),
        mesh: MeshId(Hash([number; 32])),
        mesh_name: name.parse().unwrap(),
        operator_name: "ada".parse().unwrap(),
        operator: KeyPair::from_seed(&[number; 32]),
        agents: vec![KnownAgent {
            address: "10.0.0.1:7946".to_owned(),
            key: KeyPair::from_seed(&[100; 32]).public(),
        }],
    }
}

fn saved() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("config/agentmesh/operator.json");
    let mut contexts = Contexts::default();
    contexts.add(context(1, "prod"));
    contexts.add(context(2, "test"));
    contexts.save(&path).unwrap();
    (directory, path)
}

#[test]
fn what_was_saved_is_loaded() {
    let (_directory, path) = saved();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let loaded = Contexts::load(&path).unwrap();
    assert_eq!(loaded.all().len(), 2);
    let current = loaded.select(None).unwrap();
    assert_eq!(current.mesh_name.as_str(), "test");
    let prod = loaded.select(Some("prod")).unwrap();
    assert_eq!(prod.mesh, context(1, "prod").mesh);
    assert_eq!(prod.operator.public(), context(1, "prod").operator.public());
    assert_eq!(prod.agents, context(1, "prod").agents);
    assert_eq!(prod.operator_name.as_str(), "ada");
}

#[test]
fn new_knowledge_of_a_context_takes_the_place_of_the_old() {
    let (_directory, path) = saved();
    let mut contexts = Contexts::load(&path).unwrap();
    contexts.rename("prod", "work".parse().unwrap()).unwrap();
    let silent = Context { agents: Vec::new(), ..context(1, "prod") };
    assert!(!contexts.update(silent.clone()), "it has another name now");
    assert_eq!(contexts.add(silent).as_str(), "work", "and keeps it");
    assert_eq!(contexts.all().len(), 2);
    assert!(contexts.select(None).unwrap().agents.is_empty());
}

#[test]
fn two_contexts_never_share_a_name() {
    let (_directory, path) = saved();
    let mut contexts = Contexts::load(&path).unwrap();
    assert_eq!(contexts.add(context(3, "prod")).as_str(), "prod-2");
    // Another operator of a mesh that is known is a context of its own.
    let other = Context { operator: KeyPair::from_seed(&[50; 32]), ..context(1, "prod") };
    assert_eq!(contexts.add(other).as_str(), "prod-3");
    let taken = contexts.rename("prod-2", "test".parse().unwrap());
    assert!(matches!(taken, Err(ContextError::Taken(_))));
    contexts.rename("test", "test".parse().unwrap()).unwrap();
}

#[test]
fn when_the_current_context_goes_only_a_single_other_one_takes_its_place() {
    let (_directory, path) = saved();
    let mut contexts = Contexts::load(&path).unwrap();
    contexts.add(context(3, "third"));
    contexts.remove("third").unwrap();
    assert!(matches!(contexts.select(None), Err(ContextError::NoneCurrent)));
    contexts.make_current("prod").unwrap();
    contexts.remove("prod").unwrap();
    assert_eq!(contexts.select(None).unwrap().name.as_str(), "test");
    contexts.remove("test").unwrap();
    assert!(matches!(contexts.select(None), Err(ContextError::Empty)));
}

#[test]
fn a_file_of_the_first_form_is_read_and_written_in_the_second() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("operator.json");
    let key = KeyPair::from_seed(&[100; 32]).public();
    let mesh = |number: &str, name: &str| {
        format!(
            r#"{{"id": "{}", "name": "{name}", "operator": {{"name": "ada", "secret": "{}"}},
                "agents": [{{"address": "10.0.0.1:7946", "key": "{key}"}}]}}"#,
            number.repeat(32),
            number.repeat(32),
        )
    };
    let meshes = [mesh("01", "prod"), mesh("02", "test"), mesh("03", "prod")].join(", ");
    let current = "01".repeat(32);
    let text = format!(r#"{{"version": 1, "current": "{current}", "meshes": [{meshes}]}}"#);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    Contexts::edit(&path, |_unchanged| Ok::<_, ContextError>(())).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("\"version\": 2"));
    let contexts = Contexts::load(&path).unwrap();
    let names: Vec<&str> = contexts.all().iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["prod", "test", "prod-2"]);
    let current = contexts.select(None).unwrap();
    assert!(current.is_same(&context(1, "prod")));
    assert_eq!(current.agents, context(1, "prod").agents);
}

#[test]
fn edits_at_the_same_time_lose_no_key() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("config/operator.json");
    std::thread::scope(|scope| {
        for number in 1..=8 {
            let path = &path;
            scope.spawn(move || {
                Contexts::edit(path, |contexts| {
                    contexts.add(context(number, "prod"));
                    Ok::<_, ContextError>(())
                })
                .unwrap();
            });
        }
    });
    assert_eq!(Contexts::load(&path).unwrap().all().len(), 8);
}

#[test]
fn an_edit_that_fails_changes_nothing_and_a_waiting_key_is_kept() {
    let (_directory, path) = saved();
    let waiting = Newcomer { name: "ben".parse().unwrap(), key: KeyPair::from_seed(&[7; 32]) };
    let key = waiting.key.public();
    Contexts::edit(&path, |contexts| {
        contexts.set_newcomer(Some(waiting));
        Ok::<_, ContextError>(())
    })
    .unwrap();
    let refused = Contexts::edit(&path, |contexts| {
        contexts.set_newcomer(None);
        contexts.remove("other").map(drop)
    });
    assert!(matches!(refused, Err(ContextError::Unknown { .. })));
    let kept = Contexts::load(&path).unwrap();
    assert_eq!(kept.newcomer().map(|one| one.key.public()), Some(key));
}

#[test]
fn an_export_is_private_and_overwrites_nothing() {
    let (directory, path) = saved();
    let contexts = Contexts::load(&path).unwrap();
    let other = directory.path().join("export.json");
    export(&contexts, &other).unwrap();
    assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Contexts::load(&other).unwrap().all().len(), 2);
    assert!(export(&contexts, &other).unwrap_err().to_string().contains("exists already"));
}

#[test]
fn a_missing_file_says_where_it_comes_from() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("operator.json");
    let error = Contexts::load(&path).unwrap_err();
    assert!(matches!(error, ContextError::Missing { .. }));
    assert!(error.to_string().contains("`agent init` writes it"), "{error}");
    let empty = Contexts::load_or_empty(&path).unwrap();
    assert_eq!(empty.select(None).unwrap_err().to_string(), "no mesh is known");
}

#[test]
fn an_unknown_context_is_answered_with_the_known_ones() {
    let (_directory, path) = saved();
    let error = Contexts::load(&path).unwrap().select(Some("prd")).unwrap_err();
    assert_eq!(error.to_string(), "there is no context \"prd\"");
    let ContextError::Unknown { known, .. } = error else { panic!("{error:?}") };
    assert_eq!(known, ["prod", "test"]);
}

#[test]
fn a_fault_is_named_by_file_and_key() {
    let (_directory, path) = saved();
    let good = fs::read_to_string(&path).unwrap();
    let cases = [
        (
            "10.0.0.1:7946",
            "10.0.0.1",
            "contexts[0].agents[0].address: \"10.0.0.1\" is not host:port",
        ),
        ("\"ada\"", "\"A\"", "contexts[0].operator.name: 'A' cannot be in a name"),
        ("\"secret\": \"01", "\"secret\": \"", "contexts[0].operator.secret: 62 characters"),
        ("\"version\": 2", "\"version\": 3", "version: 3 is none of the versions"),
        ("\"current\": \"test", "\"current\": \"tent", "current: is none of the contexts"),
        (
            "\"name\": \"test\",\n      \"mesh\"",
            "\"name\": \"prod\",\n      \"mesh\"",
            "contexts: two have the name prod",
        ),
    ];
    for (from, to, reason) in cases {
        assert!(good.contains(from), "{good}");
        fs::write(&path, good.replace(from, to)).unwrap();
        let error = Contexts::load(&path).unwrap_err().to_string();
        assert!(error.contains("operator.json: ") && error.contains(reason), "{error}");
    }
    fs::write(&path, good.replace("\"agents\"", "\"agent\"")).unwrap();
    let error = Contexts::load(&path).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("unknown field `agent`") && source.contains("line"), "{source}");
}
