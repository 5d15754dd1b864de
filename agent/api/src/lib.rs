//! The gRPC server and client; conversion between wire and domain.
