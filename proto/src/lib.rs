//! The wire format of Agent Mesh: protobuf messages and gRPC services, generated and checked in.
