//! Whether what a node leaves alone could be left alone.

use super::{Node, World, world};
use crate::time::Moment;

impl Node {
    /// A node looks only at the members and the slots of which something has changed. This looks at all of them, at this moment, and
    /// says what it would do that the node does not; `None` while nothing is overlooked. For tests of whole meshes: it takes long.
    #[must_use]
    pub fn overlooked(&self, at: Moment) -> Option<String> {
        let mut node = self.clone();
        node.reading = at.reading;
        let members = node.membership.overlooked(at.now);
        let settled = node.is_settled(at.now);
        for other in node.membership.take_turned() {
            node.claims.turned(other);
        }
        members.or_else(|| node.claims.overlooked(&world!(node, at.now, settled)))
    }
}
