//! What becomes of revisions when a manifest meets the release before it.

use mesh_coordinator::id::Revision;
use mesh_coordinator::spec::{AppSpec, Mode, PublishMode, Template};

use crate::{BareImage, Manifest, Source, load};

fn manifest(text: &str) -> Manifest {
    let text = format!("name: shop\nservices:\n{text}");
    load(&Source::text("compose.yaml", text), &|_| None).unwrap().manifest
}

fn resolve(text: &str, previous: Option<&AppSpec>) -> AppSpec {
    let digest_of = |name: &str| Some(format!("sha256:{name}"));
    let id = |template: &Template| u64::try_from(template.image.name.len()).unwrap();
    manifest(text).resolve(digest_of, previous, id).unwrap()
}

fn revision(spec: &AppSpec, service: &str) -> Revision {
    spec.service(&service.parse().unwrap()).unwrap().revision
}

#[test]
fn only_a_changed_template_makes_a_new_revision() {
    let first = resolve("  a: {image: x}\n  b: {image: x}\n  c: {image: x}\n", None);
    assert_eq!(revision(&first, "a"), Revision { number: 1, id: 1 });
    let text = "  a: {image: x, deploy: {replicas: 9}, ports: [\"80:80\"]}\n  b: {image: xy}\n  d: {image: xyz}\n";
    let second = resolve(text, Some(&first));
    assert_eq!(revision(&second, "a"), revision(&first, "a"));
    assert_eq!(revision(&second, "b"), Revision { number: 2, id: 2 });
    assert_eq!(revision(&second, "d"), Revision { number: 1, id: 3 });
    assert_eq!(second.services.len(), 3);
}

#[test]
fn an_image_that_means_something_else_is_a_change() {
    let first = resolve("  a: {image: x}\n", None);
    let digest_of = |_: &str| Some("sha256:new".to_owned());
    let second = manifest("  a: {image: x}\n").resolve(digest_of, Some(&first), |_| 7).unwrap();
    assert_eq!(revision(&second, "a"), Revision { number: 2, id: 7 });
}

#[test]
fn all_missing_images_are_told() {
    let digest_of = |name: &str| (name == "x").then(String::new);
    let missing = manifest("  a: {image: x}\n  b: {image: y}\n  c: {image: z}\n");
    let missing = missing.resolve(digest_of, None, |_| 0).unwrap_err();
    let told: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["the image y of services.b is not known", "the image z of services.c is not known"]
    );
}

fn bare() -> BareImage {
    BareImage {
        name: "blog".parse().unwrap(),
        image: "ghost:5".to_owned(),
        ports: vec!["80:2368".to_owned()],
        replicas: Some(3),
        command: Vec::new(),
    }
}

#[test]
fn an_image_alone_is_a_manifest_with_one_service() {
    let manifest = Manifest::from_image(bare()).unwrap();
    let (name, service) = manifest.services.first_key_value().unwrap();
    assert_eq!((name.as_str(), service.image.as_str()), ("blog", "ghost:5"));
    assert_eq!(service.deploy.mode, Mode::Replicated(3));
    assert_eq!((service.ports[0].published, service.ports[0].mode), (80, PublishMode::Mesh));
    let text = "name: blog\nservices: {blog: {image: 'ghost:5', ports: ['80:2368'], deploy: {replicas: 3}}}";
    assert_eq!(load(&Source::text("x", text), &|_| None).unwrap().manifest, manifest);
}

#[test]
fn faults_of_flags_are_all_told() {
    let ports = vec!["80".to_owned(), "1:1".to_owned(), "1:2".to_owned()];
    let bare = BareImage { image: "Ghost".to_owned(), ports, replicas: Some(1_001), ..bare() };
    let problems = Manifest::from_image(bare).unwrap_err();
    let told: Vec<_> = problems.iter().map(|one| (one.path.as_str(), one.found.as_str())).collect();
    assert_eq!(
        told,
        [
            ("", "\"Ghost\" is not an image's name: it has capital letters"),
            ("--port", "\"80\" leaves the published port to chance"),
            ("--port", "the port 1 is published twice"),
            ("--replicas", "1001 is out of range"),
        ]
    );
}
