//! Claims: who takes, keeps and gives way.
