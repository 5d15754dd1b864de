//! How an image and a template make a program.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_coordinator::id::{AppUid, Revision, SlotId, SlotIndex};
use mesh_coordinator::spec::{ImageRef, Limits, RestartPolicy, StopSignal, Template};
use mesh_ports::runtime::{Container, ContainerId, StartError, Tag};

use super::program;
use crate::image;

fn container() -> Container {
    let slot = SlotId {
        app: AppUid([1; 16]),
        service: "web".parse().expect("a name"),
        index: SlotIndex::Number(0),
    };
    Container {
        id: ContainerId("web-0".to_owned()),
        tag: Tag { slot, revision: Revision { number: 1, id: 1 }, name: "shop/web/0".to_owned() },
        template: Template {
            image: ImageRef { name: "web".to_owned(), digest: "sha256:0".to_owned() },
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            working_dir: None,
            user: None,
            hostname: None,
            labels: BTreeMap::new(),
            restart: RestartPolicy::Always,
            healthcheck: None,
            stop_signal: StopSignal::TERM,
            stop_grace: Duration::from_secs(10),
            limits: Limits::default(),
        },
        environment: BTreeMap::new(),
        hostname: "web-0".to_owned(),
        ports: Vec::new(),
        fence: None,
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn image() -> image::Config {
    image::Config {
        entrypoint: words(&["/entry"]),
        cmd: words(&["serve"]),
        env: words(&["A=image", "PATH=/bin"]),
        working_dir: Some("/srv".to_owned()),
        user: Some("web".to_owned()),
    }
}

#[test]
fn entry_point_and_command_combine_as_in_compose() {
    let case = |entrypoint: Option<&[&str]>, command: Option<&[&str]>, expected: &[&str]| {
        let mut container = container();
        container.template.entrypoint = entrypoint.map(words);
        container.template.command = command.map(words);
        let program = program(&container, &image()).expect("a program");
        assert_eq!(program.args, words(expected));
    };
    case(None, None, &["/entry", "serve"]);
    case(None, Some(&["check"]), &["/entry", "check"]);
    case(Some(&["/other"]), None, &["/other"]);
    case(Some(&[]), Some(&["/bin/sh", "-c"]), &["/bin/sh", "-c"]);
}

#[test]
fn nothing_to_run_is_said() {
    let mut container = container();
    container.template.entrypoint = Some(Vec::new());
    let error = program(&container, &image()).expect_err("nothing");
    assert!(matches!(error, StartError::Invalid { .. }), "{error}");
}

#[test]
fn the_agent_wins_over_the_template_and_that_over_the_image() {
    let mut container = container();
    container.template.environment = BTreeMap::from([
        ("A".to_owned(), "template".to_owned()),
        ("B".to_owned(), "template".to_owned()),
    ]);
    container.environment = BTreeMap::from([("B".to_owned(), "agent".to_owned())]);
    let program = program(&container, &image()).expect("a program");
    assert_eq!(program.env, words(&["HOSTNAME=web-0", "PATH=/bin", "A=template", "B=agent"]));
    assert_eq!((program.working_dir.as_str(), program.user.as_str()), ("/srv", "web"));
}
