//! The operator's file: private, whole, and clear about what is wrong with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use mesh_coordinator::id::{Hash, MeshId};
use tempfile::TempDir;

use super::{Context, ContextError, Contexts, KnownAgent};
use crate::keys::KeyPair;

fn context(number: u8, name: &str) -> Context {
    Context {
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
    contexts.put(context(1, "prod"));
    contexts.put(context(2, "test"));
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
fn new_knowledge_of_a_mesh_takes_the_place_of_the_old() {
    let (_directory, path) = saved();
    let mut contexts = Contexts::load(&path).unwrap();
    contexts.put(Context { agents: Vec::new(), ..context(1, "prod") });
    assert_eq!(contexts.all().len(), 2);
    assert!(contexts.select(None).unwrap().agents.is_empty());
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
fn an_unknown_mesh_is_answered_with_the_known_ones() {
    let (_directory, path) = saved();
    let contexts = Contexts::load(&path).unwrap();
    let error = contexts.select(Some("prd")).unwrap_err().to_string();
    assert_eq!(error, "no mesh named \"prd\" is known; known are: prod, test");
    let mut twins = contexts;
    twins.put(context(3, "prod"));
    assert!(matches!(twins.select(Some("prod")), Err(ContextError::Ambiguous(_))));
}

#[test]
fn a_fault_is_named_by_file_and_key() {
    let (_directory, path) = saved();
    let good = fs::read_to_string(&path).unwrap();
    let cases = [
        ("10.0.0.1:7946", "10.0.0.1", "meshes[0].agents[0].address: \"10.0.0.1\" is not host:port"),
        ("\"ada\"", "\"A\"", "meshes[0].operator.name: 'A' cannot be in a name"),
        ("\"secret\": \"01", "\"secret\": \"", "meshes[0].operator.secret: 62 characters"),
        ("\"version\": 1", "\"version\": 2", "version: 2 is not the version"),
        ("\"current\": \"02", "\"current\": \"12", "current: is none of the meshes"),
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
