//! Whoever misspells a name is told what was probably meant, and what to type next, in every command that takes one.

use std::path::Path;

use clap::{Arg, Command};
use clap_complete::ArgValueCompleter;
use mesh_coordinator::spec::LabelKey;
use mesh_identity::keys::KeyPair;
use mesh_identity::operator::{Context, Contexts, KnownAgent};

use super::{Ran, run, run_line, with_hello};
use crate::cli;
use crate::mesh::fake::{Fake, MESH};

/// Arguments by which something is named that has to exist already: the command, the argument, a line that misspells the name,
/// and what it should have been.
const NAMES: &[(&str, &str, &str, &str)] = &[
    ("place", "app", "place DIR/helo", "DIR/hello"),
    ("place", "app", "place DIR/helo/compose.yaml", "DIR/hello/compose.yaml"),
    ("place", "app", "place helo:1 --name new", "hello:1"),
    ("ps", "app", "ps helo", "hello"),
    ("ps", "app", "ps hello/hello", "hello"),
    ("leases", "app", "leases helo", "hello"),
    ("why", "slot", "why helo/hello/0", "hello"),
    ("slot force-reset", "slot", "slot force-reset hello/helo/0 -y", "hello"),
    ("why", "slot", "why hello/helo/0", "hello"),
    ("why", "slot", "why daemon/probe/alhpa", "daemon/probe/alpha"),
    ("logs", "target", "logs helo", "hello"),
    ("logs", "target", "logs hello/hlelo", "hello"),
    ("logs", "target", "logs -f daemon/probe/alhpa", "daemon/probe/alpha"),
    ("exec", "slot", "exec helo/hello/0 -- true", "hello"),
    ("exec", "slot", "exec daemon/probe/betta -- true", "daemon/probe/beta"),
    ("scale", "services", "scale hello/helo=5", "hello"),
    ("scale", "services", "scale hlelo=5", "hello/hello"),
    ("scale", "services", "scale hello=5", "hello/hello"),
    ("scale", "app", "scale -a helo hello=5", "hello"),
    ("scale", "app", "scale -a hello/hello hello=5", "hello"),
    ("restart", "target", "restart helo", "hello"),
    ("restart", "target", "restart hello/helo", "hello"),
    ("restart", "target", "restart hello/hello/0", "hello/hello"),
    ("stop", "app", "stop hlelo", "hello"),
    ("stop", "app", "stop hello/hello", "hello"),
    ("start", "app", "start hlelo", "hello"),
    ("start", "app", "start hello/hello", "hello"),
    ("rm", "app", "rm -y helol", "hello"),
    ("rm", "app", "rm -y hello/hello", "hello"),
    ("drain", "node", "drain alhpa", "alpha"),
    ("undrain", "node", "undrain alhpa", "alpha"),
    ("node label", "node", "node label alhpa disk=ssd", "alpha"),
    ("node label", "labels", "node label alpha rakc-", "rack"),
    ("node rm", "node", "node rm -y gama", "gamma"),
    ("node forget", "node", "node forget -y gama", "gamma"),
    ("token create", "node", "token create --node betta", "beta"),
    ("operator add", "name", "operator add bne --role admin", "ben"),
    ("operator rm", "operator", "operator rm -y bne", "ben"),
    ("image push", "archive", "image push DIR/hello.tra", "DIR/hello.tar"),
    ("context show", "name", "context show tset", "test"),
    ("context use", "name", "context use tset", "test"),
    ("context rename", "name", "context rename tset new", "test"),
    ("context rm", "name", "context rm -y tset", "test"),
    ("context import", "file", "context import DIR/cotnexts.json", "DIR/contexts.json"),
    ("recover", "key_file", "recover --key-file DIR/kye.txt", "DIR/key.txt"),
    ("", "context", "ps --context tset", "test"),
];

/// Those that the plan of a recovery looks up, which has tests of its own.
const NAMES_IN_RECOVERY: &[(&str, &str)] = &[("recover", "drop"), ("recover", "restore")];

/// Arguments that name nothing, or what is only to be made, or what nobody here can know.
const OTHERS: &[(&str, &str)] = &[
    ("", "agent"),
    ("", "config"),
    ("", "output"),
    ("completions", "shell"),
    ("context export", "file"),
    ("context rename", "new"),
    ("events", "tail"),
    ("exec", "command"),
    ("exec", "env"),
    ("exec", "user"),
    ("exec", "workdir"),
    ("image push", "name"),
    ("login", "addresses"),
    ("login", "name"),
    ("login", "pin"),
    ("login", "role"),
    ("logs", "since"),
    ("logs", "tail"),
    ("man", "dir"),
    ("node label", "weight"),
    ("operator add", "key"),
    ("operator add", "role"),
    ("place", "command"),
    ("place", "name"),
    ("place", "ports"),
    ("place", "replicas"),
    ("recover", "name"),
    ("recover", "pin"),
    ("token create", "ttl"),
    ("token create", "uses"),
];

/// Of every command that waits.
const WAITING: &str = "timeout";

/// A mesh with two apps, of which one has a replica on every node, with labels and with a second operator.
async fn populated(folder: &Path) -> Fake {
    let fake = with_hello().await;
    let rack: LabelKey = "rack".parse().unwrap();
    fake.nodes.borrow_mut()[0].labels.insert(rack, "1".to_owned());
    let global = "services:\n  probe:\n    image: hello:1\n    deploy:\n      mode: global\n";
    std::fs::create_dir(folder.join("daemon")).unwrap();
    std::fs::write(folder.join("daemon/compose.yaml"), global).unwrap();
    let placed = run(&fake, &format!("agentctl place {}/daemon", folder.display())).await;
    assert_eq!(placed.code, 0, "{}", placed.err);
    let key = KeyPair::from_seed(&[50; 32]).public();
    let added = run(&fake, &format!("agentctl operator add ben --role viewer --key {key}")).await;
    assert_eq!(added.code, 0, "{}", added.err);
    fake
}

/// What can be meant, in a folder.
fn files(folder: &Path) {
    std::fs::create_dir(folder.join("hello")).unwrap();
    for name in ["hello/compose.yaml", "hello.tar", "key.txt", "contexts.json"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    let operator = KeyPair::from_seed(&[50; 32]);
    let agent = KnownAgent { address: "127.0.0.1:1".to_owned(), key: operator.public() };
    let mut contexts = Contexts::default();
    contexts.add(Context {
        name: "test".parse().unwrap(),
        mesh: MESH,
        mesh_name: "prod".parse().unwrap(),
        operator_name: "ada".parse().unwrap(),
        operator,
        agents: vec![agent],
    });
    contexts.save(&folder.join("operator.json")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_misspelt_name_gets_a_suggestion_wherever_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    files(folder.path());
    let fake = populated(folder.path()).await;
    for (_, _, line, meant) in NAMES {
        let line = format!("agentctl {} --config {dir}/operator.json", line.replace("DIR", dir));
        // What follows `--` is not for agentctl.
        let line = match line.split_once(" -- ") {
            Some((own, other)) => {
                let (command, config) = other.split_once(" --config ").unwrap();
                format!("{own} --config {config} -- {command}")
            }
            None => line,
        };
        let Ran { code, err, out } = run_line(&fake, &line).await;
        let meant = meant.replace("DIR", dir);
        assert_eq!(code, 2, "{line}: {out}{err}");
        assert!(err.contains("did you mean "), "{line}: {err}");
        assert!(err.contains(&format!(" {meant}?")), "{line}: {err}");
        assert!(err.contains("\n  next: "), "{line}: {err}");
        assert_eq!(out, "", "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_like_no_other_gets_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let fake = populated(folder.path()).await;
    for (line, said) in [
        ("ps zzz", "there is daemon, hello"),
        ("logs daemon/probe/zzz", "there is daemon/probe/alpha, daemon/probe/beta"),
        ("exec hello/hello/7 -- true", "there is hello/hello/0, hello/hello/1"),
        ("scale zzz=5", "there is daemon/probe, hello/hello"),
        ("node label beta zzz-", "there is none yet"),
    ] {
        let ran = run(&fake, &format!("agentctl {line}")).await;
        assert_eq!(ran.code, 2, "{line}");
        assert!(ran.err.contains(said) && ran.err.contains("\n  next: "), "{line}: {}", ran.err);
    }
}

#[test]
fn every_argument_is_known_to_name_something_or_not() {
    let mut definition = cli::definition();
    definition.build();
    let mut found = Vec::new();
    collect(&definition, "", &mut found);
    let names = NAMES.iter().map(|(command, argument, ..)| (*command, *argument));
    let known = names.chain(NAMES_IN_RECOVERY.iter().copied()).chain(OTHERS.iter().copied());
    let known: Vec<(&str, &str)> = known.collect();
    for (command, argument) in &found {
        assert!(
            known.contains(&(command, argument)),
            "does `{argument}` of `{command}` name something that exists? Add it to one of the tables"
        );
    }
    for (command, argument) in known {
        assert!(
            found.iter().any(|one| (one.0.as_str(), one.1.as_str()) == (command, argument)),
            "`{command}` has no argument `{argument}`"
        );
    }
}

/// Files, which the shell completes by itself.
const FILES: &[(&str, &str)] =
    &[("image push", "archive"), ("context import", "file"), ("recover", "key_file")];

#[test]
fn every_name_is_completed() {
    let mut definition = cli::definition();
    definition.build();
    let names = NAMES.iter().map(|(command, argument, ..)| (*command, *argument));
    for (command, argument) in names.chain(NAMES_IN_RECOVERY.iter().copied()) {
        let found = command.split_whitespace().fold(&definition, |found, name| {
            found.find_subcommand(name).unwrap_or_else(|| panic!("no command {command}"))
        });
        let found = found.get_arguments().find(|one| one.get_id() == argument).unwrap();
        let is_file = FILES.contains(&(command, argument));
        assert_ne!(found.get::<ArgValueCompleter>().is_some(), is_file, "{argument} of {command}");
    }
}

/// The arguments with a value of all commands; global ones are those of the program.
fn collect(command: &Command, name: &str, found: &mut Vec<(String, String)>) {
    let is_own = |argument: &&Arg| name.is_empty() || !argument.is_global_set();
    let with_value = |argument: &&Arg| argument.get_action().takes_values();
    let own = command.get_arguments().filter(is_own).filter(with_value);
    let own = own.map(|argument| argument.get_id().to_string());
    found.extend(own.filter(|id| id != WAITING).map(|id| (name.to_owned(), id)));
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("{name} {}", sub.get_name());
        collect(sub, name.trim(), found);
    }
}
