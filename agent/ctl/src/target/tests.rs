//! Names are found, abbreviated and guessed.

use super::{Target, app, node, slot};
use crate::mesh::Mesh as _;
use crate::mesh::fake::{Fake, node as fake_node};

#[test]
fn a_target_has_one_to_three_parts() {
    for text in ["blog", "blog/web", "blog/web/0"] {
        assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
    }
    for text in ["", "/", "blog/", "/web", "a/b/c/d"] {
        assert!(text.parse::<Target>().is_err(), "{text:?}");
    }
}

#[tokio::test]
async fn a_node_is_found_by_name_and_by_the_beginning_of_its_id() {
    let overview = Fake::new().overview().await.unwrap();
    let id = fake_node(2, "beta").id.to_string();
    let begin = |n: usize| id.chars().take(n).collect::<String>();
    assert_eq!(node(&overview, "beta").unwrap().name.as_str(), "beta");
    assert_eq!(node(&overview, &begin(6)).unwrap().name.as_str(), "beta");
    assert!(node(&overview, &begin(2)).is_err());
}

/// Each joined on one side of a split.
#[tokio::test]
async fn a_name_that_two_nodes_have_names_neither() {
    let mut overview = Fake::new().overview().await.unwrap();
    for view in overview.nodes.iter_mut().take(2) {
        view.name = "twin".parse().unwrap();
    }
    let message = node(&overview, "twin").unwrap_err().message().unwrap();
    assert!(message.contains("the name of several"), "{message}");
    let id = overview.nodes[1].id;
    assert_eq!(node(&overview, &id.to_string()).unwrap().id, id);
}

#[tokio::test]
async fn what_is_unknown_is_listed_or_guessed() {
    let overview = Fake::new().overview().await.unwrap();
    let message = |failure: crate::failure::Failure| failure.message().unwrap();
    assert!(message(node(&overview, "betta").unwrap_err()).contains("did you mean beta?"));
    assert!(message(node(&overview, "zzz").unwrap_err()).contains("there is alpha, beta, gamma"));
    assert!(message(app(&overview, "blog").unwrap_err()).contains("there is none yet"));
    assert!(slot(&overview, &"blog/web/0".parse().unwrap()).is_err());
}
