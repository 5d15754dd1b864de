//! The host's bridge, container interfaces, address translation, and the proxy behind published ports.
