//! Durable state on sled: catalogue, node facts; flushed before it is answered.
