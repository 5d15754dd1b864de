//! Small answers to operators: who is asked, what became of records, images.

use mesh_coordinator::id::Hash;
use mesh_ports::control::Submitted;
use mesh_ports::runtime::Image;
use mesh_proto::v1;

use super::Malformed;
use super::value::{digest, hash, mesh, node, node_to_wire, nodes, role, role_to_wire, text};
use crate::client::{Pushed, Who};

pub(crate) fn who_to_wire(who: &Who) -> v1::WhoAnswer {
    v1::WhoAnswer {
        mesh: who.mesh.0.0.to_vec(),
        mesh_name: who.mesh_name.to_string(),
        node: node_to_wire(who.node),
        node_name: who.node_name.to_string(),
        version: who.version.clone(),
        role: role_to_wire(who.role),
        refused: who.refused.clone().into_iter().collect(),
    }
}

pub(crate) fn who(answer: v1::WhoAnswer) -> Result<Who, Malformed> {
    Ok(Who {
        mesh: mesh("mesh", &answer.mesh)?,
        mesh_name: text("mesh_name", &answer.mesh_name)?,
        node: node("node", &answer.node)?,
        node_name: text("node_name", &answer.node_name)?,
        version: answer.version,
        role: role("role", answer.role)?,
        refused: answer.refused.into_iter().collect(),
    })
}

pub(crate) fn submitted_to_wire(submitted: &Submitted) -> v1::SubmitAnswer {
    v1::SubmitAnswer {
        stored_on: submitted.stored_on.iter().copied().map(node_to_wire).collect(),
        n_peers: submitted.n_peers,
        refused: submitted
            .refused
            .iter()
            .map(|(hash, reason)| v1::RefusedRecord {
                hash: hash.0.to_vec(),
                reason: reason.clone(),
            })
            .collect(),
    }
}

pub(crate) fn submitted(answer: v1::SubmitAnswer) -> Result<Submitted, Malformed> {
    let refused = answer
        .refused
        .into_iter()
        .map(|item| Ok((hash("refused.hash", &item.hash)?, item.reason)))
        .collect::<Result<Vec<(Hash, String)>, Malformed>>()?;
    Ok(Submitted {
        stored_on: nodes("stored_on", &answer.stored_on)?,
        n_peers: answer.n_peers,
        refused,
    })
}

pub(crate) fn images_to_wire(images: Vec<Image>) -> Vec<v1::ImageItem> {
    let item = |image: Image| v1::ImageItem {
        digest: image.digest,
        names: image.names,
        bytes: image.bytes,
    };
    images.into_iter().map(item).collect()
}

pub(crate) fn images(items: Vec<v1::ImageItem>) -> Result<Vec<Image>, Malformed> {
    let image = |item: v1::ImageItem| {
        digest("image.digest", &item.digest)?;
        Ok(Image { digest: item.digest, names: item.names, bytes: item.bytes })
    };
    items.into_iter().map(image).collect()
}

pub(crate) fn pushed_to_wire(pushed: Pushed) -> v1::PushAnswer {
    v1::PushAnswer {
        images: images_to_wire(pushed.images),
        stored_on: pushed.stored_on.into_iter().map(node_to_wire).collect(),
        n_peers: pushed.n_peers,
    }
}

pub(crate) fn pushed(answer: v1::PushAnswer) -> Result<Pushed, Malformed> {
    Ok(Pushed {
        images: images(answer.images)?,
        stored_on: nodes("stored_on", &answer.stored_on)?,
        n_peers: answer.n_peers,
    })
}

/// The node of a bytes field of an event's `silent` item; kept here with the other answers.
pub(crate) fn silent(item: v1::SilentNode) -> Result<crate::client::Silent, Malformed> {
    Ok(crate::client::Silent {
        node: node("silent.node", &item.node)?,
        name: text("silent.name", &item.name)?,
        reason: item.reason,
    })
}
